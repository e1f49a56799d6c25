//! Captured `ClientHello`s, and ways to take them apart.

/// Ruby 3.1 with OpenSSL 3.0, in `example.test`.
pub const OPENSSL: &[u8] = include_bytes!("../hello/openssl.bin");
/// The name in [`OPENSSL`].
pub const OPENSSL_NAME: &str = "puppet.example.test";
/// With a post-quantum key share: more than one segment of most networks.
pub const POST_QUANTUM: &[u8] = include_bytes!("../hello/post-quantum.bin");
/// The name in [`POST_QUANTUM`].
pub const POST_QUANTUM_NAME: &str = "puppet.localhost";

/// Header of a TLS record: type, version, length.
const HEADER: usize = 5;
/// From the start of a record to the session id's length: header, message header, version, random.
const SESSION_ID: usize = HEADER + 4 + 2 + 32;

/// The same message in records of `size` bytes of payload each.
pub fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |payload: &[u8]| {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&hello[..3], &length, payload].concat()
    };
    hello[HEADER..].chunks(size).flat_map(record).collect()
}

/// [`OPENSSL`] with another name in its SNI; `None`: without the extension.
pub fn with_sni(name: Option<&str>) -> Vec<u8> {
    let old = OPENSSL_NAME.as_bytes();
    let at = OPENSSL.windows(old.len()).position(|window| window == old).unwrap();
    let mut hello = OPENSSL.to_vec();
    // Ahead of the name: extension's type, its length, the list's length, the name's type, its length.
    let extension = at - 9;
    let difference = if let Some(name) = name {
        hello.splice(at..at + old.len(), name.bytes());
        let difference = to_signed(name.len()) - to_signed(old.len());
        for length in [at - 2, at - 5, at - 7] {
            add(&mut hello, length, difference);
        }
        difference
    } else {
        let whole = extension..at + old.len();
        let difference = -to_signed(whole.len());
        hello.drain(whole);
        difference
    };
    add_to_lengths(&mut hello, difference);
    hello
}

/// The same hello with one more extension, without content.
pub fn with_extension(hello: &[u8], kind: u16) -> Vec<u8> {
    let mut hello = [hello, &kind.to_be_bytes(), &[0, 0]].concat();
    add_to_lengths(&mut hello, 4);
    hello
}

/// What its extensions have grown by, in all lengths around them.
fn add_to_lengths(hello: &mut [u8], difference: i32) {
    let ciphers = SESSION_ID + 1 + usize::from(hello[SESSION_ID]);
    let compression = ciphers + 2 + usize::from(u16::from_be_bytes([hello[ciphers], hello[ciphers + 1]]));
    let extensions = compression + 1 + usize::from(hello[compression]);
    // All extensions, the message (the low two of its three bytes), the record.
    for length in [extensions, HEADER + 2, HEADER - 2] {
        add(hello, length, difference);
    }
}

fn to_signed(length: usize) -> i32 {
    i32::try_from(length).unwrap()
}

fn add(bytes: &mut [u8], at: usize, difference: i32) {
    let length = i32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]])) + difference;
    bytes[at..at + 2].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
}
