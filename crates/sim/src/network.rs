//! Connections: bytes that keep their order, come late, come in pieces, and may never come.

use crate::{
    random::Random,
    schedule::{Event, Micros, Schedule},
};
use std::collections::{BTreeMap, VecDeque};
use zeolith_core::SessionId;

/// All connections, by the session that they will be.
#[derive(Debug, Default)]
pub(crate) struct Network {
    links: BTreeMap<SessionId, Link>,
}

#[derive(Debug)]
struct Link {
    client: usize,
    to_server: Pipe,
    to_client: Pipe,
    /// What one piece of data takes, at most.
    delay: Micros,
    /// Bytes that it takes before its writer must wait.
    room: usize,
    /// What the client says next takes so long: it has deserted the connection.
    late: Option<Micros>,
}

#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// After the bytes comes the end.
    ended: bool,
    /// The end has been delivered, or nobody is there to receive.
    over: bool,
    under_way: bool,
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    Server,
    Client,
}

/// What arrives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Bytes(Vec<u8>),
    End,
    Nothing,
}

impl Network {
    pub(crate) fn connect(&mut self, id: SessionId, client: usize, delay: Micros, room: usize) {
        let (to_server, to_client) = (Pipe::default(), Pipe::default());
        self.links.insert(id, Link { client, to_server, to_client, delay, room, late: None });
    }

    pub(crate) fn client(&self, id: SessionId) -> Option<usize> {
        self.links.get(&id).map(|link| link.client)
    }

    /// How many more bytes the socket takes.
    pub(crate) fn room(&self, id: SessionId) -> usize {
        self.links.get(&id).map_or(usize::MAX, |link| link.room.saturating_sub(link.to_client.bytes.len()))
    }

    pub(crate) fn send(
        &mut self,
        id: SessionId,
        toward: Toward,
        bytes: &[u8],
        schedule: &mut Schedule,
        random: &mut Random,
    ) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let pipe = link.pipe(toward);
        if pipe.ended || pipe.over {
            return;
        }
        pipe.bytes.extend(bytes);
        link.hurry(id, toward, schedule, random);
    }

    /// Data is sent on if it waits, for example because its receiver had stopped reading.
    pub(crate) fn resume(
        &mut self,
        id: SessionId,
        toward: Toward,
        schedule: &mut Schedule,
        random: &mut Random,
    ) {
        if let Some(link) = self.links.get_mut(&id) {
            link.hurry(id, toward, schedule, random);
        }
    }

    /// What arrives now: a piece of any size.
    pub(crate) fn arrive(
        &mut self,
        id: SessionId,
        toward: Toward,
        schedule: &mut Schedule,
        random: &mut Random,
    ) -> Arrival {
        let Some(link) = self.links.get_mut(&id) else { return Arrival::Nothing };
        if toward == Toward::Server
            && let Some(late) = link.late.take()
        {
            schedule.after(late, Event::ToServer(id));
            return Arrival::Nothing;
        }
        let pipe = link.pipe(toward);
        pipe.under_way = false;
        if pipe.over {
            return Arrival::Nothing;
        }
        if pipe.bytes.is_empty() {
            if pipe.ended {
                pipe.over = true;
                return Arrival::End;
            }
            return Arrival::Nothing;
        }
        let all = pipe.bytes.len() as u64;
        let len = if random.chance(600) { all } else { random.between(1, all) };
        let bytes = pipe.bytes.drain(..len as usize).collect();
        link.hurry(id, toward, schedule, random);
        Arrival::Bytes(bytes)
    }

    /// The receiver does not read at present.
    pub(crate) fn postpone(&mut self, id: SessionId, toward: Toward) {
        if let Some(link) = self.links.get_mut(&id) {
            link.pipe(toward).under_way = false;
        }
    }

    /// One side closes: the other gets what is under way, or loses the end of it, and then hears of the end.
    pub(crate) fn close(&mut self, id: SessionId, by: Toward, schedule: &mut Schedule, random: &mut Random) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (to_it, from_it) = match by {
            Toward::Server => (Toward::Server, Toward::Client),
            Toward::Client => (Toward::Client, Toward::Server),
        };
        link.pipe(to_it).over = true;
        link.pipe(to_it).bytes.clear();
        let pipe = link.pipe(from_it);
        if random.chance(500) {
            let left = random.between(0, pipe.bytes.len() as u64);
            pipe.bytes.truncate(left as usize);
        }
        pipe.ended = true;
        link.hurry(id, from_it, schedule, random);
    }

    /// The client gives the connection up, and nobody tells the server: what is under way to it, or all but its end,
    /// comes after `late`, and then the end.
    pub(crate) fn desert(
        &mut self,
        id: SessionId,
        late: Micros,
        schedule: &mut Schedule,
        random: &mut Random,
    ) {
        self.close(id, Toward::Client, schedule, random);
        if let Some(link) = self.links.get_mut(&id) {
            link.late = Some(late);
        }
    }

    /// Whether the client has left this connection and is told nothing on it any more.
    pub(crate) fn is_left(&self, id: SessionId) -> bool {
        self.links.get(&id).is_none_or(|link| link.to_client.over)
    }

    /// The connection breaks: both sides lose an end of what is under way, and hear of it at some time.
    pub(crate) fn cut(&mut self, id: SessionId, schedule: &mut Schedule, random: &mut Random) {
        let Some(link) = self.links.get_mut(&id) else { return };
        for toward in [Toward::Server, Toward::Client] {
            let pipe = link.pipe(toward);
            let left = random.between(0, pipe.bytes.len() as u64);
            pipe.bytes.truncate(left as usize);
            pipe.ended = true;
            link.hurry(id, toward, schedule, random);
        }
    }
}

impl Link {
    const fn pipe(&mut self, toward: Toward) -> &mut Pipe {
        match toward {
            Toward::Server => &mut self.to_server,
            Toward::Client => &mut self.to_client,
        }
    }

    fn hurry(&mut self, id: SessionId, toward: Toward, schedule: &mut Schedule, random: &mut Random) {
        let delay = self.delay;
        let pipe = self.pipe(toward);
        let waits = !pipe.bytes.is_empty() || pipe.ended;
        if pipe.under_way || pipe.over || !waits {
            return;
        }
        pipe.under_way = true;
        let long = if random.chance(20) { 20 } else { 1 };
        let delay = random.between(1, delay * long);
        schedule.after(
            delay,
            match toward {
                Toward::Server => Event::ToServer(id),
                Toward::Client => Event::ToClient(id),
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_then_the_end() {
        let (mut network, mut schedule, mut random) =
            (Network::default(), Schedule::default(), Random::new(7));
        let id = SessionId(1);
        network.connect(id, 0, 50, 1 << 10);
        let sent: Vec<u8> = (0..200).collect();
        network.send(id, Toward::Server, &sent, &mut schedule, &mut random);
        let mut arrived = Vec::new();
        while let Some(Event::ToServer(id)) = schedule.next() {
            match network.arrive(id, Toward::Server, &mut schedule, &mut random) {
                Arrival::Bytes(bytes) => arrived.extend(bytes),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(arrived, sent);
        network.close(id, Toward::Client, &mut schedule, &mut random);
        schedule.next().unwrap();
        assert_eq!(network.arrive(id, Toward::Server, &mut schedule, &mut random), Arrival::End);
    }
}
