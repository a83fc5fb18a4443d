//! ZEO 5 wire protocol: 4-byte big-endian length framing, then one message
//! (id, flag, name, args) in msgpack ("M5") or pickle ("Z5").

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Msgpack,
    Pickle,
}

/// A decoded value (borrowed from the message).
#[derive(Clone, Debug, PartialEq)]
pub enum Val<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(&'a [u8]),
    Str(&'a str),
    Seq(Vec<Val<'a>>),
    Map(Vec<(Val<'a>, Val<'a>)>),
    Mark,
}

impl<'a> Val<'a> {
    pub fn tid(&self) -> Option<u64> {
        match self {
            Val::Bytes(b) if b.len() == 8 => Some(u64::from_be_bytes((*b).try_into().unwrap())),
            _ => None,
        }
    }
    pub fn int(&self) -> Option<i64> {
        match self {
            Val::Int(i) => Some(*i),
            Val::Bool(b) => Some(*b as i64),
            _ => None,
        }
    }
    pub fn seq(&self) -> Option<&[Val<'a>]> {
        match self {
            Val::Seq(v) => Some(v),
            _ => None,
        }
    }
}

/// Message writer for both encodings.
pub struct W<'a> {
    pub enc: Encoding,
    pub b: &'a mut Vec<u8>,
}

impl<'a> W<'a> {
    pub fn tuple(&mut self, n: usize) {
        match self.enc {
            Encoding::Msgpack => self.arr(n),
            Encoding::Pickle => {
                if n > 3 {
                    self.b.push(b'(')
                }
            }
        }
    }
    fn arr(&mut self, n: usize) {
        if n < 16 {
            self.b.push(0x90 | n as u8)
        } else if n < 65536 {
            self.b.push(0xdc);
            self.b.extend_from_slice(&(n as u16).to_be_bytes())
        } else {
            self.b.push(0xdd);
            self.b.extend_from_slice(&(n as u32).to_be_bytes())
        }
    }
    pub fn end_tuple(&mut self, n: usize) {
        if self.enc == Encoding::Pickle {
            match n {
                0 => self.b.push(b')'),
                1 => self.b.push(0x85),
                2 => self.b.push(0x86),
                3 => self.b.push(0x87),
                _ => self.b.push(b't'),
            }
        }
    }
    pub fn list(&mut self, n: usize) {
        match self.enc {
            Encoding::Msgpack => self.arr(n),
            Encoding::Pickle => {
                self.b.push(b']');
                if n > 0 {
                    self.b.push(b'(')
                }
            }
        }
    }
    pub fn end_list(&mut self, n: usize) {
        if self.enc == Encoding::Pickle && n > 0 {
            self.b.push(b'e')
        }
    }
    pub fn map(&mut self, n: usize) {
        match self.enc {
            Encoding::Msgpack => self.b.push(0x80 | n as u8),
            Encoding::Pickle => {
                self.b.push(b'}');
                if n > 0 {
                    self.b.push(b'(')
                }
            }
        }
    }
    pub fn end_map(&mut self, n: usize) {
        if self.enc == Encoding::Pickle && n > 0 {
            self.b.push(b'u')
        }
    }
    pub fn nil(&mut self) {
        self.b.push(if self.enc == Encoding::Msgpack { 0xc0 } else { b'N' })
    }
    pub fn bool(&mut self, v: bool) {
        self.b.push(match (self.enc, v) {
            (Encoding::Msgpack, false) => 0xc2,
            (Encoding::Msgpack, true) => 0xc3,
            (Encoding::Pickle, false) => 0x89,
            (Encoding::Pickle, true) => 0x88,
        })
    }
    pub fn int(&mut self, v: i64) {
        let b = &mut *self.b;
        match self.enc {
            Encoding::Msgpack => {
                if (0..128).contains(&v) {
                    b.push(v as u8)
                } else if (-32..0).contains(&v) {
                    b.push(v as i8 as u8)
                } else if v >= 0 {
                    if v < 1 << 16 {
                        b.push(0xcd);
                        b.extend_from_slice(&(v as u16).to_be_bytes())
                    } else if v < 1 << 32 {
                        b.push(0xce);
                        b.extend_from_slice(&(v as u32).to_be_bytes())
                    } else {
                        b.push(0xcf);
                        b.extend_from_slice(&(v as u64).to_be_bytes())
                    }
                } else {
                    b.push(0xd3);
                    b.extend_from_slice(&v.to_be_bytes())
                }
            }
            Encoding::Pickle => {
                if (0..256).contains(&v) {
                    b.push(b'K');
                    b.push(v as u8)
                } else if (i32::MIN as i64..=i32::MAX as i64).contains(&v) {
                    b.push(b'J');
                    b.extend_from_slice(&(v as i32).to_le_bytes())
                } else {
                    let le = v.to_le_bytes();
                    let mut n = 8;
                    while n > 1
                        && ((le[n - 1] == 0 && le[n - 2] < 0x80) || (le[n - 1] == 0xff && le[n - 2] >= 0x80))
                    {
                        n -= 1
                    }
                    b.push(0x8a);
                    b.push(n as u8);
                    b.extend_from_slice(&le[..n])
                }
            }
        }
    }
    pub fn bytes(&mut self, v: &[u8]) {
        let b = &mut *self.b;
        match self.enc {
            Encoding::Msgpack => {
                if v.len() < 256 {
                    b.push(0xc4);
                    b.push(v.len() as u8)
                } else if v.len() < 65536 {
                    b.push(0xc5);
                    b.extend_from_slice(&(v.len() as u16).to_be_bytes())
                } else {
                    b.push(0xc6);
                    b.extend_from_slice(&(v.len() as u32).to_be_bytes())
                }
            }
            Encoding::Pickle => {
                if v.len() < 256 {
                    b.push(b'C');
                    b.push(v.len() as u8)
                } else {
                    b.push(b'B');
                    b.extend_from_slice(&(v.len() as u32).to_le_bytes())
                }
            }
        }
        b.extend_from_slice(v)
    }
    pub fn u64(&mut self, v: u64) {
        self.bytes(&v.to_be_bytes())
    }
    pub fn str(&mut self, v: &str) {
        let b = &mut *self.b;
        match self.enc {
            Encoding::Msgpack => {
                if v.len() < 32 {
                    b.push(0xa0 | v.len() as u8)
                } else {
                    b.push(0xd9);
                    b.push(v.len() as u8)
                }
            }
            Encoding::Pickle => {
                b.push(b'X');
                b.extend_from_slice(&(v.len() as u32).to_le_bytes())
            }
        }
        b.extend_from_slice(v.as_bytes())
    }
}

/// Append one framed message; `f` writes id, flag, name, args (4 items).
pub fn msg<F: FnOnce(&mut W)>(out: &mut Vec<u8>, enc: Encoding, f: F) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    if enc == Encoding::Pickle {
        out.extend_from_slice(b"\x80\x03")
    }
    let mut w = W { enc, b: out };
    w.tuple(4);
    f(&mut w);
    w.end_tuple(4);
    if enc == Encoding::Pickle {
        out.push(b'.')
    }
    let n = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&n.to_be_bytes());
}

pub fn raw_frame(out: &mut Vec<u8>, b: &[u8]) {
    out.extend_from_slice(&(b.len() as u32).to_be_bytes());
    out.extend_from_slice(b)
}

/// Decode one message into its four parts.
pub fn decode<'a>(enc: Encoding, b: &'a [u8]) -> Result<[Val<'a>; 4], String> {
    let v = match enc {
        Encoding::Msgpack => {
            let mut d = Mp { b, p: 0 };
            d.val()?
        }
        Encoding::Pickle => unpickle(b)?,
    };
    match v {
        Val::Seq(s) if s.len() == 4 => Ok(s.try_into().unwrap()),
        _ => Err("message is not a 4-tuple".into()),
    }
}

struct Mp<'a> {
    b: &'a [u8],
    p: usize,
}
impl<'a> Mp<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        if self.p + n > self.b.len() {
            return Err("short msgpack".into());
        }
        let r = &self.b[self.p..self.p + n];
        self.p += n;
        Ok(r)
    }
    fn be(&mut self, n: usize) -> Result<u64, String> {
        Ok(self.take(n)?.iter().fold(0u64, |a, c| a << 8 | *c as u64))
    }
    fn st(&mut self, n: usize) -> Result<Val<'a>, String> {
        std::str::from_utf8(self.take(n)?).map(Val::Str).map_err(|e| e.to_string())
    }
    fn seq(&mut self, n: usize) -> Result<Val<'a>, String> {
        let mut v = Vec::with_capacity(n.min(65536));
        for _ in 0..n {
            v.push(self.val()?)
        }
        Ok(Val::Seq(v))
    }
    fn map(&mut self, n: usize) -> Result<Val<'a>, String> {
        let mut v = Vec::with_capacity(n.min(65536));
        for _ in 0..n {
            let k = self.val()?;
            v.push((k, self.val()?))
        }
        Ok(Val::Map(v))
    }
    fn val(&mut self) -> Result<Val<'a>, String> {
        let c = self.take(1)?[0];
        Ok(match c {
            0..=0x7f => Val::Int(c as i64),
            0x80..=0x8f => return self.map((c & 15) as usize),
            0x90..=0x9f => return self.seq((c & 15) as usize),
            0xa0..=0xbf => return self.st((c & 31) as usize),
            0xc0 => Val::Nil,
            0xc2 => Val::Bool(false),
            0xc3 => Val::Bool(true),
            0xc4..=0xc6 => {
                let n = self.be(1 << (c - 0xc4))? as usize;
                Val::Bytes(self.take(n)?)
            }
            0xca => Val::Float(f32::from_bits(self.be(4)? as u32) as f64),
            0xcb => Val::Float(f64::from_bits(self.be(8)?)),
            0xcc..=0xcf => Val::Int(self.be(1 << (c - 0xcc))? as i64),
            0xd0 => Val::Int(self.be(1)? as i8 as i64),
            0xd1 => Val::Int(self.be(2)? as i16 as i64),
            0xd2 => Val::Int(self.be(4)? as i32 as i64),
            0xd3 => Val::Int(self.be(8)? as i64),
            0xd9..=0xdb => {
                let n = self.be(1 << (c - 0xd9))? as usize;
                return self.st(n);
            }
            0xdc | 0xdd => {
                let n = self.be(2 << (c - 0xdc))? as usize;
                return self.seq(n);
            }
            0xde | 0xdf => {
                let n = self.be(2 << (c - 0xde))? as usize;
                return self.map(n);
            }
            0xe0..=0xff => Val::Int(c as i8 as i64),
            _ => return Err(format!("msgpack byte {c:#x}")),
        })
    }
}

/// Enough of an unpickler for ZEO messages.
fn unpickle(b: &[u8]) -> Result<Val<'_>, String> {
    let mut st: Vec<Val> = Vec::with_capacity(16);
    let mut memo: Vec<Val> = Vec::new();
    let mut p = 0;
    macro_rules! take {
        ($n:expr) => {{
            let n = $n;
            if p + n > b.len() {
                return Err("short pickle".into());
            }
            let r = &b[p..p + n];
            p += n;
            r
        }};
    }
    macro_rules! le {
        ($n:expr) => {
            take!($n).iter().rev().fold(0u64, |a, c| a << 8 | *c as u64)
        };
    }
    fn popn<'a>(st: &mut Vec<Val<'a>>, n: usize) -> Result<Vec<Val<'a>>, String> {
        if st.len() < n {
            return Err("stack underflow".into());
        }
        Ok(st.split_off(st.len() - n))
    }
    fn popmark<'a>(st: &mut Vec<Val<'a>>) -> Result<Vec<Val<'a>>, String> {
        let i = st.iter().rposition(|v| matches!(v, Val::Mark)).ok_or("no mark")?;
        let r = st.split_off(i + 1);
        st.pop();
        Ok(r)
    }
    fn put<'a>(memo: &mut Vec<Val<'a>>, i: usize, v: Val<'a>) {
        if memo.len() <= i {
            memo.resize(i + 1, Val::Nil)
        }
        memo[i] = v
    }
    loop {
        let op = take!(1)[0];
        match op {
            0x80 => {
                take!(1);
            }
            0x95 => {
                take!(8);
            }
            b'.' => return st.pop().ok_or_else(|| "empty".into()),
            b'(' => st.push(Val::Mark),
            b't' => {
                let v = popmark(&mut st)?;
                st.push(Val::Seq(v))
            }
            b')' | b']' => st.push(Val::Seq(vec![])),
            b'}' => st.push(Val::Map(vec![])),
            0x85..=0x87 => {
                let v = popn(&mut st, (op - 0x84) as usize)?;
                st.push(Val::Seq(v))
            }
            b'a' => {
                let v = st.pop().ok_or("underflow")?;
                if let Some(Val::Seq(s)) = st.last_mut() {
                    s.push(v)
                }
            }
            b'e' => {
                let v = popmark(&mut st)?;
                if let Some(Val::Seq(s)) = st.last_mut() {
                    s.extend(v)
                }
            }
            b's' | b'u' => {
                let v = if op == b's' { popn(&mut st, 2)? } else { popmark(&mut st)? };
                if let Some(Val::Map(s)) = st.last_mut() {
                    let mut it = v.into_iter();
                    while let (Some(k), Some(x)) = (it.next(), it.next()) {
                        s.push((k, x))
                    }
                }
            }
            b'K' => st.push(Val::Int(le!(1) as i64)),
            b'M' => st.push(Val::Int(le!(2) as i64)),
            b'J' => st.push(Val::Int(le!(4) as u32 as i32 as i64)),
            b'G' => {
                let t = take!(8);
                st.push(Val::Float(f64::from_be_bytes(t.try_into().unwrap())))
            }
            0x8a => {
                let n = le!(1) as usize;
                let t = take!(n);
                let mut v: i64 = if n > 0 && t[n - 1] >= 0x80 { -1 } else { 0 };
                for c in t.iter().rev() {
                    v = v << 8 | *c as i64
                }
                st.push(Val::Int(v))
            }
            b'N' => st.push(Val::Nil),
            0x88 => st.push(Val::Bool(true)),
            0x89 => st.push(Val::Bool(false)),
            b'X' | 0x8c => {
                let n = le!(if op == b'X' { 4 } else { 1 }) as usize;
                let t = std::str::from_utf8(take!(n)).map_err(|e| e.to_string())?;
                st.push(Val::Str(t))
            }
            b'C' | b'U' => {
                let n = le!(1) as usize;
                st.push(Val::Bytes(take!(n)))
            }
            b'B' | b'T' => {
                let n = le!(4) as usize;
                st.push(Val::Bytes(take!(n)))
            }
            0x8e => {
                let n = le!(8) as usize;
                st.push(Val::Bytes(take!(n)))
            }
            b'q' => {
                let i = le!(1) as usize;
                put(&mut memo, i, st.last().cloned().ok_or("underflow")?)
            }
            b'r' => {
                let i = le!(4) as usize;
                if i > 1 << 20 {
                    return Err("memo".into());
                }
                put(&mut memo, i, st.last().cloned().ok_or("underflow")?)
            }
            0x94 => memo.push(st.last().cloned().ok_or("underflow")?),
            b'h' | b'j' => {
                let i = le!(if op == b'h' { 1 } else { 4 }) as usize;
                st.push(memo.get(i).cloned().ok_or("memo")?)
            }
            b'c' => {
                let mut parts = vec![];
                for _ in 0..2 {
                    let e = b[p..].iter().position(|c| *c == b'\n').ok_or("nl")?;
                    parts.push(Val::Str(std::str::from_utf8(&b[p..p + e]).map_err(|e| e.to_string())?));
                    p += e + 1
                }
                st.push(Val::Seq(parts))
            }
            b'R' | 0x81 | b'b' => {
                let v = popn(&mut st, 2)?;
                st.push(Val::Seq(v))
            }
            b'0' => {
                st.pop();
            }
            _ => return Err(format!("pickle opcode {op:#x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn roundtrip() {
        for enc in [Encoding::Msgpack, Encoding::Pickle] {
            for n in [0i64, 5, 200, 70000, -1, -40, 1 << 33, 0x7f12_3456_7890, -(1 << 40)] {
                let mut o = vec![];
                msg(&mut o, enc, |w| {
                    w.int(n);
                    w.bool(true);
                    w.str(".reply");
                    w.tuple(3);
                    w.bytes(&[7; 300]);
                    w.u64(9);
                    w.nil();
                    w.end_tuple(3)
                });
                let l = u32::from_be_bytes(o[..4].try_into().unwrap()) as usize;
                assert_eq!(l + 4, o.len());
                let d = decode(enc, &o[4..]).unwrap();
                assert_eq!(d[0].int(), Some(n), "{enc:?}");
                assert_eq!(d[2], Val::Str(".reply"));
                let s = d[3].seq().unwrap();
                assert_eq!(s[0], Val::Bytes(&[7; 300]));
                assert_eq!(s[1].tid(), Some(9));
            }
        }
    }
}
