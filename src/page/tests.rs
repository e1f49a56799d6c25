use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

use super::*;
use crate::dial::Did;
use crate::status::tests::Bench;
use crate::status::{Connection, Ending};
use crate::tunnel::End;

const HERE: &str = "127.0.0.1:50000";

fn got(method: &str, target: &str, status: Status) -> Response {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:8139\r\n\r\n");
    answer(&Request::parse(head.as_bytes()).unwrap(), HERE.parse().unwrap(), || status)
}

fn page(status: Status) -> String {
    got("GET", "/", status).body.into_owned()
}

fn field<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_ref())
}

/// What a browser makes of the policy: the one style sheet has this hash, or it does not count.
#[test]
fn the_style_is_the_one_in_the_policy() {
    let hash = TLS13_AES_128_GCM_SHA256.tls13().unwrap().common.hash_provider.hash(STYLE.as_bytes());
    let expected = format!("sha256-{}", data_encoding::BASE64.encode(hash.as_ref()));
    assert_eq!(STYLE_HASH, expected, "style.css has changed; write this in place of the old hash in src/page.rs");
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains("</"), "it is all there is");
    let status = Status::default();
    let policy = field(&got("GET", "/", status), "Content-Security-Policy").unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains(STYLE_HASH), "{policy}");
}

#[tokio::test]
async fn what_there_is() {
    let status = Bench::with_a_compiler_down().status();
    let page = got("GET", "/", status.clone());
    assert_eq!((page.status, page.content_type), (200, "text/html; charset=utf-8"));
    let json = got("GET", "/status?x", status.clone());
    assert_eq!((json.status, json.content_type), (200, "application/json"));
    assert_eq!(serde_json::from_str::<Status>(&json.body).unwrap(), status);
    let metrics = got("GET", "/metrics", status.clone());
    assert_eq!((metrics.status, metrics.content_type), (200, prometheus::TEXT_TYPE));
    assert_eq!(metrics.body, prometheus::text(&status));
    let nothing = got("GET", "/favicon.ico", status.clone());
    assert_eq!(nothing.status, 404);
    assert!(nothing.body.contains("/metrics"), "{}", nothing.body);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let response = got(method, "/", status.clone());
        assert_eq!((response.status, field(&response, "Allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

#[test]
fn the_form_of_the_metrics_is_negotiated() {
    let head = b"GET /metrics HTTP/1.1\r\nHost: [::1]\r\nAccept: text/plain;q=0.5\r\nAccept: application/openmetrics-text\r\n\r\n";
    let response = answer(&Request::parse(head).unwrap(), HERE.parse().unwrap(), Status::default);
    assert_eq!((response.content_type, field(&response, "Vary")), (prometheus::OPENMETRICS_TYPE, Some("Accept")));
    assert!(response.body.ends_with("# EOF\n"));
}

#[test]
fn who_may_not_look_is_told_why_and_nothing_else() {
    let head = b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let response = answer(&Request::parse(head).unwrap(), HERE.parse().unwrap(), || panic!("nobody is to know"));
    assert_eq!(response.status, 403);
    assert!(response.body.contains("\"evil.example\" is no name of this page"), "{}", response.body);
    let head = b"GET / HTTP/1.1\r\n\r\n";
    let response = answer(&Request::parse(head).unwrap(), HERE.parse().unwrap(), || panic!("nobody is to know"));
    assert_eq!(response.status, 400);
    assert_eq!(Request::parse(b"GET / HTTP/7.0\r\n\r\n").unwrap_err().status, 400);
}

#[test]
fn an_answer_is_whole_and_keeps_to_itself() {
    let whole = String::from_utf8(Response::text(404, "no".into()).to_bytes(false)).unwrap();
    assert!(
        whole.starts_with("HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n")
    );
    for field in [
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Cross-Origin-Resource-Policy: same-origin",
        "Referrer-Policy: no-referrer",
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
        "Connection: close",
    ] {
        assert_eq!(whole.matches(&format!("\r\n{field}\r\n")).count(), 1, "{field}");
    }
    assert!(whole.ends_with("\r\n\r\nno\n"));
    let head = String::from_utf8(Response::text(404, "no".into()).to_bytes(true)).unwrap();
    assert_eq!(head, whole.strip_suffix("no\n").unwrap());
    assert!(String::from_utf8(CROWDED.to_bytes(false)).unwrap().contains("\r\nRetry-After: 1\r\n"));
    let page = got("GET", "/", Status::default()).to_bytes(true);
    assert_eq!(String::from_utf8(page).unwrap().matches("Content-Security-Policy").count(), 1);
}

// === the page ===

#[tokio::test]
async fn all_is_well_at_a_glance() {
    let mut bench = Bench::new("");
    bench.dns_said("_x-puppet._tcp.test", &["0 5 8140 a.test"], 300, 100);
    bench.connected(&[("a.test:8140", Did::Answer)], End::ClientClosed);
    let text = page(bench.status());
    assert!(text.contains("<title>\u{2714} puppet-shim: all is well</title>"), "{text}");
    assert!(text.contains("1 connection carried, and nothing is against any of 1 server."), "{text}");
    assert!(!text.contains("What is wrong"));
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_mend() {
    let mut bench = Bench::with_a_compiler_down();
    let text = page(bench.status());
    assert!(text.contains("puppet-shim: 1 warning</title>") && text.contains("a.test:8140 refused"), "{text}");
    assert!(text.contains("tried in vain once") && text.contains("class=\"vain\""), "{text}");
    bench.connected(&[("b.test:8140", Did::Reset)], End::ClientClosed);
    let text = page(bench.status());
    assert!(text.contains("puppet-shim: 1 fault</title>"), "{text}");
    assert!(text.contains("<b>Mend: </b>see that one of them runs"), "{text}");
}

#[tokio::test]
async fn a_certificate_without_the_name_is_not_called_good() {
    let mut bench = Bench::with_a_compiler_down();
    let (server, asked) = ("b.test:8140".parse().unwrap(), "puppet.test".parse().unwrap());
    let unnamed = crate::verdict::Verdict::Unnamed { has: "b.test".into() };
    bench.pool.conclude(&server, &asked, unnamed, bench.clocks.now);
    let text = page(bench.status());
    assert!(text.contains("<span class=\"badge warning\">wrong name</span>"), "{text}");
    assert!(!text.contains("badge good\">good<"), "{text}");
}

/// Clients choose what they ask for, and so does DNS.
#[tokio::test]
async fn nothing_from_elsewhere_is_markup() {
    let evil = "<script>alert(1)</script>\"'&";
    let mut status = Bench::with_a_compiler_down().status();
    status.recent.push(Connection {
        role: Some("compile".into()),
        asked: Some(evil.into()),
        via: Some(evil.into()),
        server: Some(evil.into()),
        tried: Some(format!("{evil}; {evil}")),
        dns: Some(evil.into()),
        end: evil.into(),
        outcome: Ending::Broken,
        ..Connection::default()
    });
    status.version = evil.into();
    status.domain = Some(evil.into());
    let compile = status.roles.iter_mut().find(|role| role.role == "compile").unwrap();
    compile.servers[0].server = evil.into();
    compile.servers[0].cause = Some(evil.into());
    compile.names = vec![evil.into()];
    compile.records[0].error = Some(evil.into());
    compile.source.as_mut().unwrap().owner = Some(evil.into());
    status.problems[0].message = evil.into();
    status.configuration.diagnostics = vec![evil.into()];
    let text = page(status);
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;"), "{text}");
    assert!(!text.contains("<script") && !text.contains("\"'&"), "{text}");
}

/// It works where nothing can be loaded and nothing runs.
#[tokio::test]
async fn it_needs_nothing_from_elsewhere() {
    let text = page(Bench::with_a_compiler_down().status());
    for foreign in ["<script", "src=", "style=\"", "@import", "https:", " onclick"] {
        assert!(!text.contains(foreign), "{foreign}");
    }
    let without_icon = text.replace("http://www.w3.org/2000/svg", "");
    assert!(!without_icon.contains("http:"), "something is loaded");
    assert!(!text.contains("http-equiv"));
    let refreshed = got("GET", "/?refresh=5", Status::default()).body.into_owned();
    assert!(refreshed.contains("<meta http-equiv=\"refresh\" content=\"5\">"), "{refreshed}");
}
