//! What the machine itself can do: loopback round trips and bandwidth, syncs, memory. `physlimits SECONDS FOLDER`
//! prints a line of JSON for each.
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, folder] = &arguments[..] else {
        eprintln!("physlimits SECONDS FOLDER");
        std::process::exit(2)
    };
    let seconds =
        Duration::from_secs_f64(seconds.parse().expect("the first argument is a number of seconds"));
    memory();
    for connections in [1, 16] {
        round_trips(connections, 560, seconds);
    }
    stream(seconds);
    for size in [4096, 65536] {
        syncs(folder, size, seconds);
    }
}

fn report(name: &str, mut micros: Vec<f64>, per_second: f64) {
    micros.sort_by(f64::total_cmp);
    let at = |part: f64| micros[((micros.len() as f64 * part) as usize).min(micros.len() - 1)];
    println!(
        "{{\"name\": \"{name}\", \"per_s\": {per_second:.1}, \"p50_us\": {:.2}, \"p99_us\": {:.2}, \"max_us\": {:.2}}}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Messages there and back, by one thread a connection on each side.
fn round_trips(connections: usize, size: usize, time: Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback takes a listener");
    let address = listener.local_addr().expect("a listener has an address");
    let echo = std::thread::spawn(move || {
        let accepted: Vec<_> = (0..connections)
            .map(|_| {
                let (mut stream, _) = listener.accept().expect("our own clients connect");
                stream.set_nodelay(true).expect("a socket takes the option");
                std::thread::spawn(move || {
                    let mut buffer = vec![0; size];
                    while stream.read_exact(&mut buffer).is_ok() && stream.write_all(&buffer).is_ok() {}
                })
            })
            .collect();
        accepted.into_iter().for_each(|thread| thread.join().expect("an echo ends with its client"));
    });
    let begun = Instant::now();
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(address).expect("the listener is there");
                stream.set_nodelay(true).expect("a socket takes the option");
                let mut buffer = vec![1; size];
                let mut micros = vec![];
                while begun.elapsed() < time {
                    let at = Instant::now();
                    stream.write_all(&buffer).expect("the echo reads");
                    stream.read_exact(&mut buffer).expect("the echo writes");
                    micros.push(at.elapsed().as_nanos() as f64 / 1e3);
                }
                micros
            })
        })
        .collect();
    let micros: Vec<f64> =
        clients.into_iter().flat_map(|thread| thread.join().expect("a client ends")).collect();
    let per_second = micros.len() as f64 / begun.elapsed().as_secs_f64();
    echo.join().expect("the echo ends");
    report(&format!("roundtrip_{connections}"), micros, per_second);
}

/// Bytes in one direction, from one thread to another.
fn stream(time: Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback takes a listener");
    let address = listener.local_addr().expect("a listener has an address");
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("our own client connects");
        let (mut buffer, mut total) = (vec![0; 256 << 10], 0_u64);
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            total += read as u64;
        }
        total
    });
    let mut stream = TcpStream::connect(address).expect("the listener is there");
    let buffer = vec![1; 64 << 10];
    let begun = Instant::now();
    while begun.elapsed() < time {
        stream.write_all(&buffer).expect("the reader reads");
    }
    drop(stream);
    let total = reader.join().expect("the reader ends");
    let rate = total as f64 / 1e6 / begun.elapsed().as_secs_f64();
    println!("{{\"name\": \"stream\", \"mb_per_s\": {rate:.0}}}");
}

/// Appends to a file, each made durable before the next.
fn syncs(folder: &str, size: usize, time: Duration) {
    let path = format!("{folder}/physlimits-{}", std::process::id());
    let mut file = File::create(&path).expect("the folder takes a file");
    let buffer = vec![7; size];
    let mut micros = vec![];
    let begun = Instant::now();
    while begun.elapsed() < time {
        let at = Instant::now();
        file.write_all(&buffer).expect("the disk has room");
        file.sync_data().expect("the disk works");
        micros.push(at.elapsed().as_nanos() as f64 / 1e3);
    }
    let per_second = micros.len() as f64 / begun.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(&path).expect("the file is ours");
    report(&format!("sync_{size}"), micros, per_second);
}

/// Copies in memory, larger than any cache.
fn memory() {
    let from = vec![1_u8; 128 << 20];
    let mut to = vec![0_u8; 128 << 20];
    let mut best = 0_f64;
    for _ in 0..6 {
        let at = Instant::now();
        to.copy_from_slice(&from);
        std::hint::black_box(&to);
        best = best.max(from.len() as f64 / 1e6 / at.elapsed().as_secs_f64());
    }
    println!("{{\"name\": \"memcpy\", \"mb_per_s\": {best:.0}}}");
}
