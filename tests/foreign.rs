//! Names that are not Puppet's, in proxy mode: refused, connected to, or handed to the site's own proxy.
//!
//! With `http_proxy_host` set, every `http://` and `https://` source in a manifest comes to the shim. A refusal must
//! tell the admin which setting to change; what is carried must be what the client meant, to the server it meant, and
//! only that.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;

use puppet_shim::config::Foreign;
use puppet_shim::host::{Host, HostPort};
use support::journal::Line;
use support::raw;
use support::shim::Bare;
use support::tcp::{Answer, Named, PATIENCE, Raw, ask, refusing, status_line};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WEB: &str = "www.example.org";

/// A shim with that policy, for which `www.example.org` is at the server's address.
async fn shim(foreign: Foreign, server: &Raw) -> Bare {
    let bare = Bare::with(|config| config.foreign = foreign).await;
    bare.dns.set_addresses(WEB, 60, &[server.address().ip()]).await;
    bare
}

async fn direct(server: &Raw) -> Bare {
    shim(Foreign::Direct, server).await
}

fn parent(server: &Raw) -> Foreign {
    let address = server.address();
    Foreign::Proxy(HostPort { host: Host::Ip(address.ip()), port: address.port() })
}

async fn line(bare: &Bare) -> Line {
    let mut lines = bare.journal.take(1).await;
    assert_eq!(lines.len(), 1, "one connection, more than one line");
    lines.remove(0)
}

/// The head of a request as it has arrived.
async fn read_head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = timeout(PATIENCE, stream.read_line(&mut head)).await.expect("no request").unwrap();
        assert!(read > 0, "the request breaks off: {head:?}");
    }
    head
}

async fn connect(address: SocketAddr, request: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("no end").unwrap();
    text
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

/// Answers, and ends the connection as `Connection: close` has it. Nothing but the request may have come.
async fn answer_and_close(mut server: BufReader<TcpStream>) {
    server.write_all(OK.as_bytes()).await.unwrap();
    server.shutdown().await.unwrap();
    let mut more = Vec::new();
    timeout(PATIENCE, server.read_to_end(&mut more)).await.expect("the shim keeps the connection").unwrap();
    assert_eq!(String::from_utf8_lossy(&more), "", "behind the request");
}

#[tokio::test]
async fn refused_by_default_and_told_which_setting_to_change() {
    let server = Raw::start().await;
    let bare = shim(Foreign::Refuse, &server).await;
    let reason = |target: &str| {
        format!(
            "{target} is not a Puppet server of this site; the setting foreign = direct (or the URL of a proxy) in puppet-shim.toml \
             would allow it"
        )
    };
    let expected = Answer::Refused(403, reason("www.example.org:443"));
    assert_eq!(ask(bare.shim(), "www.example.org:443").await, expected);
    assert_eq!(line(&bare).await.get("row"), Some("foreign"));
    for method in ["GET", "HEAD", "POST"] {
        let request = format!("{method} http://{WEB}/a HTTP/1.1\r\nHost: {WEB}\r\n\r\n");
        let reply = raw::exchange(bare.shim(), &[request.as_bytes()]).await.unwrap();
        assert!(reply.closed);
        let (status, said) = status_line(std::str::from_utf8(&reply.bytes).unwrap());
        assert_eq!((status, said), (403, reason("www.example.org:80")));
        let line = line(&bare).await;
        assert_eq!((line.get("via"), line.get("name"), line.get("status")), (Some("http"), Some(WEB), Some("403")));
    }
    assert_eq!(bare.dns.queries(WEB, hickory_server::proto::rr::RecordType::A), 0);
}

#[tokio::test]
async fn direct_connect() {
    let server = Named::start("the web").await;
    let bare = Bare::with(|config| config.foreign = Foreign::Direct).await;
    bare.dns.set_addresses(WEB, 60, &[server.address().ip()]).await;
    let port = server.address().port();
    assert_eq!(ask(bare.shim(), &format!("{WEB}:{port}")).await, Answer::Tunnel("the web".into()));
    let line = line(&bare).await;
    let seen = ["row", "role", "source", "server"].map(|field| line.get(field));
    let expected = format!("{WEB}:{port}");
    assert_eq!(seen, [Some("foreign"), None, Some("the name itself"), Some(expected.as_str())]);
    // By address, too.
    assert_eq!(ask(bare.shim(), &server.address().to_string()).await, Answer::Tunnel("the web".into()));
    let gone = refusing();
    let reason = format!("no {gone} reachable: {gone} refused");
    assert_eq!(ask(bare.shim(), &gone.to_string()).await, Answer::Refused(502, reason));
    // A CONNECT is all that this setting opens: TLS on the port of a listener still has to name somebody of ours.
    let reply = raw::exchange(bare.shim(), &[&raw::client_hello(WEB)]).await.unwrap();
    assert_eq!(reply.bytes, [21, 3, 3, 0, 2, 2, 112]);
}

/// What a request looks like to the server: origin form, and nothing of what was between the client and the shim.
#[tokio::test]
async fn direct_get_and_head() {
    let server = Raw::start().await;
    let bare = direct(&server).await;
    let authority = format!("{WEB}:{}", server.address().port());
    for method in ["GET", "HEAD"] {
        let request = format!(
            "{method} http://{authority}/a/b?c=d HTTP/1.1\r\nHost: other.example.org\r\nRange: bytes=0-\r\nAccept: */*\r\n\
             Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
             Upgrade: h2c\r\nProxy-Authorization: Basic c2VjcmV0\r\nX-Hop: for the shim alone\r\n\r\n"
        );
        let mut client = connect(bare.shim(), &request).await;
        let mut upstream = BufReader::new(server.accept().await);
        let head = read_head(&mut upstream).await;
        let expected = format!(
            "{method} /a/b?c=d HTTP/1.1\r\nHost: {authority}\r\nRange: bytes=0-\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(head, expected);
        let (answer, ()) = tokio::join!(
            async {
                let answer = read_all(&mut client).await;
                drop(client);
                answer
            },
            answer_and_close(upstream)
        );
        assert_eq!(answer, OK);
        let line = line(&bare).await;
        assert_eq!((line.get("message"), line.get("via")), (Some("carried"), Some("http")), "{line}");
    }
}

#[tokio::test]
async fn direct_post_with_its_body() {
    let server = Raw::start().await;
    let bare = direct(&server).await;
    let authority = format!("{WEB}:{}", server.address().port());
    let body = "x".repeat(300_000);
    // The body right behind the head, and some of it later.
    for (with, later) in [(300_000, 0), (0, 300_000), (10, 299_990)] {
        let head = format!("POST http://{authority}/p HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 300000\r\n\r\n");
        let mut client = connect(bare.shim(), &format!("{head}{}", &body[..with])).await;
        let mut upstream = BufReader::new(server.accept().await);
        client.write_all(&body.as_bytes()[..later]).await.unwrap();
        assert!(read_head(&mut upstream).await.contains("\r\nContent-Length: 300000\r\n"));
        let mut received = vec![0; body.len()];
        timeout(PATIENCE, upstream.read_exact(&mut received)).await.expect("less than all of it").unwrap();
        assert!(received == body.as_bytes());
        let (answer, ()) = tokio::join!(
            async {
                let answer = read_all(&mut client).await;
                drop(client);
                answer
            },
            answer_and_close(upstream)
        );
        assert_eq!(answer, OK);
        bare.journal.take(1).await;
    }
}

/// The next request may be for another server, and carry what is meant for that one.
#[tokio::test]
async fn a_second_request_on_the_connection_does_not_reach_the_first_server() {
    let server = Raw::start().await;
    let bare = direct(&server).await;
    let authority = format!("{WEB}:{}", server.address().port());
    let first = format!("GET http://{authority}/1 HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let second = "GET http://other.example.org/2 HTTP/1.1\r\nHost: other.example.org\r\nCookie: secret\r\n\r\n";
    for glued in [true, false] {
        let mut client = if glued {
            connect(bare.shim(), &format!("{first}{second}")).await
        } else {
            connect(bare.shim(), &first).await
        };
        let mut upstream = BufReader::new(server.accept().await);
        assert!(read_head(&mut upstream).await.starts_with("GET /1 HTTP/1.1\r\n"));
        if !glued {
            client.write_all(second.as_bytes()).await.unwrap();
        }
        upstream.write_all(OK.as_bytes()).await.unwrap();
        upstream.shutdown().await.unwrap();
        let mut answer = vec![0; OK.len()];
        timeout(PATIENCE, client.read_exact(&mut answer)).await.expect("no answer").unwrap();
        assert_eq!(answer, OK.as_bytes());
        // The client sees that its second request has come to nothing, and the server sees none of it.
        let end = timeout(PATIENCE, client.read(&mut [0; 100])).await.expect("the connection stays");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        drop(client);
        let mut more = Vec::new();
        // However it ends.
        let _ = timeout(PATIENCE, upstream.read_to_end(&mut more)).await.expect("the shim keeps the connection");
        assert_eq!(String::from_utf8_lossy(&more), "");
        assert_eq!(line(&bare).await.get("message"), Some("carried"), "glued: {glued}");
    }
}

/// To a proxy the request is what it was, credentials for it included; the rest of what concerns one hop stays behind.
#[tokio::test]
async fn proxied_requests() {
    let proxy = Raw::start().await;
    let bare = shim(parent(&proxy), &proxy).await;
    for method in ["GET", "HEAD"] {
        let request = format!(
            "{method} http://{WEB}/a HTTP/1.1\r\nHost: {WEB}\r\nProxy-Connection: keep-alive\r\n\
             Proxy-Authorization: Basic c2VjcmV0\r\n\r\n"
        );
        let mut client = connect(bare.shim(), &request).await;
        let mut upstream = BufReader::new(proxy.accept().await);
        let expected = format!(
            "{method} http://{WEB}/a HTTP/1.1\r\nHost: {WEB}\r\nProxy-Authorization: Basic c2VjcmV0\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(read_head(&mut upstream).await, expected);
        let (answer, ()) = tokio::join!(
            async {
                let answer = read_all(&mut client).await;
                drop(client);
                answer
            },
            answer_and_close(upstream)
        );
        assert_eq!(answer, OK);
        let line = line(&bare).await;
        assert_eq!(line.get("server"), Some(proxy.address().to_string().as_str()), "{line}");
    }
}

/// The proxy's answer, good or bad, is the client's.
#[tokio::test]
async fn proxied_connect() {
    let proxy = Raw::start().await;
    let bare = shim(parent(&proxy), &proxy).await;
    let request =
        format!("CONNECT {WEB}:443 HTTP/1.1\r\nHost: {WEB}:443\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n");
    for reply in
        ["HTTP/1.1 200 Fine by me\r\n\r\nserver's bytes", "HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"]
    {
        let mut client = connect(bare.shim(), &request).await;
        let mut upstream = BufReader::new(proxy.accept().await);
        let head = read_head(&mut upstream).await;
        assert!(head.starts_with(&format!("CONNECT {WEB}:443 HTTP/1.1\r\n")), "{head}");
        assert!(head.contains("\r\nProxy-Authorization: Basic c2VjcmV0\r\n"), "{head}");
        assert!(
            !head.to_ascii_lowercase().contains("connection: close"),
            "a tunnel is not closed behind the request: {head}"
        );
        upstream.write_all(reply.as_bytes()).await.unwrap();
        client.write_all(b"client's bytes").await.unwrap();
        let mut through = [0; 14];
        timeout(PATIENCE, upstream.read_exact(&mut through)).await.expect("nothing comes").unwrap();
        assert_eq!(&through, b"client's bytes");
        drop(upstream);
        assert_eq!(read_all(&mut client).await, reply);
        drop(client);
        bare.journal.take(1).await;
    }
}

/// What is ours does not go to the proxy.
#[tokio::test]
async fn own_names_and_targets_are_not_foreign() {
    let (proxy, compile) = (Named::start("proxy").await, Named::start("compile").await);
    let address = proxy.address();
    for foreign in [
        Foreign::Refuse,
        Foreign::Direct,
        Foreign::Proxy(HostPort { host: Host::Ip(address.ip()), port: address.port() }),
    ] {
        let bare = Bare::with(|config| config.foreign = foreign).await;
        bare.dns.set_addresses("compile1.lab.test", 60, &[compile.address().ip()]).await;
        let record = (0, 0, compile.address().port(), "compile1.lab.test");
        bare.dns.set_srv("_x-puppet._tcp.lab.test", 60, &[record]).await;
        for target in ["puppet:8140", "puppetfiles.lab.test:8140", "compile1.lab.test:8140"] {
            assert_eq!(ask(bare.shim(), target).await, Answer::Tunnel("compile".into()), "{target}");
        }
    }
    assert_eq!(proxy.accepted(), 0);
}

/// A web server beside the Puppet server: it is meant by its own name and port, never by the SRV record's port.
#[tokio::test]
async fn plain_http_to_an_own_name_or_target_goes_to_the_port_it_names() {
    let (web, puppet) = (Raw::start().await, Named::start("not TLS").await);
    let bare = Bare::start().await;
    for name in ["compile1.lab.test", "puppet.lab.test"] {
        bare.dns.set_addresses(name, 60, &[web.address().ip()]).await;
    }
    let record = (0, 0, puppet.address().port(), "compile1.lab.test");
    bare.dns.set_srv("_x-puppet._tcp.lab.test", 60, &[record]).await;
    for name in ["puppet.lab.test", "puppet", "compile1.lab.test"] {
        let authority = format!("{name}:{}", web.address().port());
        let mut client =
            connect(bare.shim(), &format!("GET http://{authority}/a HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        let mut upstream = tokio::select! {
            stream = web.accept() => BufReader::new(stream),
            answer = read_all(&mut client) => panic!("{name}: {answer}"),
        };
        assert!(read_head(&mut upstream).await.starts_with("GET /a HTTP/1.1\r\n"));
        answer_and_close_with(upstream, &mut client).await;
        drop(client);
        assert_eq!(line(&bare).await.get("role"), Some("compile"));
    }
    assert_eq!(puppet.accepted(), 0);
}

async fn answer_and_close_with(upstream: BufReader<TcpStream>, client: &mut TcpStream) {
    let mut upstream = upstream;
    upstream.write_all(OK.as_bytes()).await.unwrap();
    drop(upstream);
    assert_eq!(read_all(client).await, OK);
}

#[tokio::test]
async fn what_is_not_carried_says_so() {
    let server = Raw::start().await;
    let bare = direct(&server).await;
    for (request, expected) in [
        (format!("GET https://{WEB}/ HTTP/1.1\r\n\r\n"), 501),
        (format!("PUT http://{WEB}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 501),
        (format!("PUT http://{WEB}/ HTTP/1.1\r\nContent-Length: x\r\n\r\n"), 400),
        (format!("PUT http://{WEB}/ HTTP/1.1\r\nContent-Length: +1\r\n\r\n"), 400),
        (format!("PUT http://{WEB}/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400),
        ("GET http:///a HTTP/1.1\r\n\r\n".into(), 400),
    ] {
        let reply = raw::exchange(bare.shim(), &[request.as_bytes()]).await.unwrap();
        let (status, _) = status_line(std::str::from_utf8(&reply.bytes).unwrap());
        assert_eq!((status, reply.closed), (expected, true), "{request}");
        line(&bare).await;
    }
}

/// A CONNECT through us to ourselves would go round for ever.
#[tokio::test]
async fn nobody_is_sent_back_to_us() {
    let bare = Bare::with(|config| config.foreign = Foreign::Direct).await;
    let own = bare.shim();
    let reason = format!("no {own} reachable: {own} leads back to puppet-shim");
    assert_eq!(ask(own, &own.to_string()).await, Answer::Refused(502, reason));
    assert_eq!(bare.journal.take(1).await.len(), 1);
}
