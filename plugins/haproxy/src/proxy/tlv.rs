//! Type-length-value fields of version 2 (section 2.2.1 to 2.2.7).

pub use endpoints_plugin_api::proxy_tlv as kind;

use super::Invalid;

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its type; see [`kind`].
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// What an SSL field says; `None` for others.
    #[must_use]
    pub fn ssl(&self) -> Option<Ssl<'a>> {
        let (head, rest) = self.value.split_first_chunk::<5>()?;
        let verify = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        (self.kind == kind::SSL).then_some(Ssl { client: head[0], verify, fields: Tlvs(rest) })
    }
}

/// A field of the type SSL (section 2.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssl<'a> {
    /// Bits: 1, over TLS; 2, with a certificate over this connection; 4, with one in the session.
    pub client: u8,
    /// Zero where the client's certificate was verified.
    pub verify: u32,
    /// The fields within.
    pub fields: Tlvs<'a>,
}

impl Ssl<'_> {
    /// Whether the client came over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.client & kind::CLIENT_SSL != 0
    }

    /// Whether it showed a certificate that was verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.client & (kind::CLIENT_CERT_CONN | kind::CLIENT_CERT_SESS) != 0 && self.verify == 0
    }
}

/// Fields one after another; checked when the header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    pub(super) const NONE: Self = Self(&[]);

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the first field of that type.
    #[must_use]
    pub fn get(&self, kind: u8) -> Option<&'a [u8]> {
        self.into_iter().find_map(|tlv| (tlv.kind == kind).then_some(tlv.value))
    }

    /// Checks the fields of `header`, which start at `start`.
    pub(super) fn check(header: &'a [u8], start: usize) -> Result<Self, Invalid> {
        let all = &header[start..];
        let mut rest = all;
        while !rest.is_empty() {
            let (tlv, after) = split(rest).ok_or(Invalid::Tlv)?;
            match tlv.kind {
                kind::CRC32C => check_sum(header, header.len() - after.len(), tlv.value)?,
                kind::UNIQUE_ID if tlv.value.len() > 128 => return Err(Invalid::Tlv),
                kind::SSL => {
                    let mut fields = tlv.value.get(5..).ok_or(Invalid::Tlv)?;
                    while !fields.is_empty() {
                        fields = split(fields).ok_or(Invalid::Tlv)?.1;
                    }
                }
                _ => {}
            }
            rest = after;
        }
        Ok(Self(all))
    }
}

/// The checksum is over the header with zeros in its own place, which ends at `end`.
fn check_sum(header: &[u8], end: usize, value: &[u8]) -> Result<(), Invalid> {
    let value: [u8; 4] = value.try_into().map_err(|_| Invalid::Checksum)?;
    let sum = crc32c::crc32c(&header[..end - 4]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    let sum = crc32c::crc32c_append(sum, &header[end..]);
    if sum == u32::from_be_bytes(value) { Ok(()) } else { Err(Invalid::Checksum) }
}

#[inline]
fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (kind, value, rest) = kind::split(bytes)?;
    Some((Tlv { kind, value }, rest))
}

impl<'a> IntoIterator for Tlvs<'a> {
    type Item = Tlv<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter(self.0)
    }
}

/// The fields in their order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = Tlv<'a>;

    #[inline]
    fn next(&mut self) -> Option<Tlv<'a>> {
        let (tlv, rest) = split(self.0)?;
        self.0 = rest;
        Some(tlv)
    }
}
