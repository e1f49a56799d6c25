//! What rustls does not say of a `ClientHello` that it has read.
//!
//! Only bytes that its parser has taken are looked at here; what does not fit all the same is answered with "do not
//! replay", which is always safe.

/// TLS record of type handshake, RFC 8446 §5.1.
const HANDSHAKE: u8 = 22;
/// Handshake message, RFC 8446 §4.
const CLIENT_HELLO: u8 = 1;
/// Extension, RFC 8446 §4.2.10.
const EARLY_DATA: u16 = 42;

/// Whether the same bytes may be sent to another server: they are one whole `ClientHello` with nothing behind it, and
/// it does not offer early data, which would be a request sent twice.
pub(crate) fn is_replayable(bytes: &[u8]) -> bool {
    handshake(bytes).is_some_and(|message| offers_early_data(&message) == Some(false))
}

/// The handshake message that these records hold, if they hold exactly one.
fn handshake(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(bytes.len());
    while !bytes.is_empty() {
        let ([HANDSHAKE, _, _, high, low], rest) = bytes.split_first_chunk()? else { return None };
        let (fragment, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        message.extend_from_slice(fragment);
        bytes = rest;
    }
    let ([CLIENT_HELLO, length @ ..], body) = message.split_first_chunk::<4>()? else { return None };
    let length = usize::try_from(u32::from_be_bytes([0, length[0], length[1], length[2]])).ok()?;
    (body.len() == length).then_some(message)
}

/// Whether a `ClientHello` (RFC 8446 §4.1.2) has that extension; `None`: it is not made as one should be.
fn offers_early_data(message: &[u8]) -> Option<bool> {
    // Type and length, version, random.
    let rest = message.get(4 + 2 + 32..)?;
    let rest = behind(rest, 1)?; // session id
    let rest = behind(rest, 2)?; // cipher suites
    let rest = behind(rest, 1)?; // compression methods
    if rest.is_empty() {
        return Some(false);
    }
    let (_, mut extensions) = rest.split_first_chunk::<2>()?;
    while !extensions.is_empty() {
        let (kind, body) = extensions.split_first_chunk::<2>()?;
        if u16::from_be_bytes(*kind) == EARLY_DATA {
            return Some(true);
        }
        extensions = behind(body, 2)?;
    }
    Some(false)
}

/// What follows a field that begins with its length, in so many bytes.
fn behind(bytes: &[u8], width: usize) -> Option<&[u8]> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    rest.get(length..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with these extensions, in records of at most so many bytes.
    fn hello(extensions: &[(u16, &[u8])], record: usize) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([4, 1, 2, 3, 4]);
        body.extend([0, 2, 0x13, 0x01]);
        body.extend([1, 0]);
        let all: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, content)| {
                let length = u16::try_from(content.len()).unwrap().to_be_bytes();
                [&kind.to_be_bytes(), &length, *content].concat()
            })
            .collect();
        body.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
        body.extend(all);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[CLIENT_HELLO, length[1], length[2], length[3]], body.as_slice()].concat();
        message
            .chunks(record)
            .flat_map(|part| [&[HANDSHAKE, 3, 1], &u16::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat())
            .collect()
    }

    #[test]
    fn a_hello_alone_may_be_sent_again() {
        for record in [1, 7, 50, 9999] {
            assert!(is_replayable(&hello(&[(0, b"sni"), (51, b"share")], record)), "{record}");
        }
        assert!(is_replayable(include_bytes!("../../tests/hello/openssl.bin")));
    }

    #[test]
    fn one_that_offers_early_data_may_not() {
        assert!(!is_replayable(&hello(&[(0, b"sni"), (EARLY_DATA, b"")], 9999)));
        assert!(!is_replayable(&hello(&[(EARLY_DATA, b""), (41, b"psk")], 3)));
        // The same number within another extension is none.
        assert!(is_replayable(&hello(&[(0, &EARLY_DATA.to_be_bytes())], 9999)));
    }

    #[test]
    fn nor_may_one_with_anything_behind_it() {
        let alone = hello(&[(0, b"sni")], 9999);
        for behind in [&[23, 3, 3, 0, 1, 0][..], &[22, 3, 1, 0, 1, 0], &[22], &[20, 3, 3, 0, 1, 1]] {
            assert!(!is_replayable(&[alone.as_slice(), behind].concat()), "{behind:?}");
        }
    }

    #[test]
    fn nor_may_a_part_of_one() {
        let whole = hello(&[(0, b"sni"), (51, b"share")], 9999);
        for end in 0..whole.len() {
            assert!(!is_replayable(&whole[..end]), "{end}");
        }
    }
}
