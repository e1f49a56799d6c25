//! Whatever goes wrong with a server, the agent does not notice: its connection succeeds at the first attempt, and how
//! long that takes has a bound.
//!
//! Puppet itself goes on to the next server only where the first refuses at once, and for some of these it waits for
//! minutes or ends its run. So every way of going wrong is put into every place: the first server, all but the last,
//! all of them; in both modes; with the certificates looked at beforehand and without. The agents do real TLS with
//! real certificates.
//!
//! The clock stands still while anybody has something to do, and is fast while nobody has: so a wait costs little, and
//! its length shows. What it takes by a real clock is in `pace.rs`.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use support::client::{Agent, Answer, Failure};
use support::clock::Slow;
use support::eventually;
use support::fault::Fault;
use support::journal::Line;
use support::shim::Shim;
use support::site::{ASKED, Ill, Mode, Seat, Site};
use tokio::time::{Instant, timeout};

/// The clock goes so many times as fast as the host's while nobody has anything to do.
const TIMES: u32 = 10;
/// Milliseconds by which a time may be off. The clock goes in whole ones; what the kernel needs to deliver on a busy
/// machine is in it, [`TIMES`] over.
const CLOSE: u64 = 100;

/// A connection that takes longer will not come any more; the shim's own budget is 15 s.
const NEVER: Duration = Duration::from_secs(60 * 60);

/// Servers that say no.
const LOUD: [Ill; 5] = [Ill::Refused, Ill::Reset, Ill::Eof, Ill::HalfClosed, Ill::Alert(40)];
/// Servers that say nothing, or nothing of use.
const SILENT: [Ill; 4] = [Ill::BlackHole, Ill::Mute, Ill::Stuck, Ill::Drip];

/// One field of the matrix.
#[derive(Clone, Copy, Debug)]
struct Cell {
    ill: Ill,
    mode: Mode,
    /// Whether certificates are looked at ahead of use.
    check: bool,
}

/// How far a server has been heard out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Until another one answered.
    UntilAnother,
    /// Until it had nothing more to say, or the budget was spent.
    UntilEnd,
}

impl Cell {
    /// Every row, mode and way of looking.
    fn all() -> Vec<Cell> {
        let mut cells = Vec::new();
        for ill in LOUD.into_iter().chain(SILENT).chain([Ill::Unnamed]) {
            for mode in Mode::ALL {
                // Who does not look at certificates passes over none.
                let checks = if ill == Ill::Unnamed { &[true][..] } else { &[false, true] };
                cells.extend(checks.iter().map(|&check| Cell { ill, mode, check }));
            }
        }
        cells
    }

    /// The log's words for what a server did, without the time where one is told.
    fn did(self, seat: &Seat, heard: Heard) -> String {
        match seat.ill {
            None => "answered".into(),
            Some(Ill::Refused) => "refused".into(),
            Some(Ill::BlackHole) if heard == Heard::UntilEnd => "timed out".into(),
            Some(Ill::BlackHole) => "did not answer".into(),
            // It is still being asked for its certificate.
            Some(Ill::Mute | Ill::Stuck | Ill::Drip) if self.check && heard == Heard::UntilAnother => {
                "did not answer".into()
            }
            Some(Ill::Mute | Ill::Stuck | Ill::Drip) => "accepted and said nothing".into(),
            Some(Ill::Reset) => "accepted and reset the connection".into(),
            Some(Ill::Eof | Ill::HalfClosed) => "accepted and closed the connection".into(),
            Some(Ill::Alert(number)) => format!("sent the TLS alert {number} ({:?})", AlertDescription::from(number)),
            Some(Ill::Unnamed) => format!("has a certificate for {}, not for {ASKED}", seat.server.name()),
        }
    }

    /// What was tried must be these servers and no others, with the time of each that is told to have been silent.
    fn assert_tried(self, tried: &str, seats: &[Seat], heard: Heard, times: &[u64]) {
        let split = |one: &'_ str| match one.rsplit_once(" within ") {
            Some((did, ms)) => (did.to_string(), ms.strip_suffix(" ms").map(|ms| ms.parse::<u64>().unwrap())),
            None => (one.to_string(), None),
        };
        let (found, ms): (Vec<_>, Vec<_>) = tried.split("; ").map(split).unzip();
        let expected: Vec<_> =
            seats.iter().map(|seat| format!("{} {}", seat.written(), self.did(seat, heard))).collect();
        assert_eq!(found, expected, "{tried}");
        let ms: Vec<_> = ms.into_iter().flatten().collect();
        let is_close = ms.len() == times.len() && ms.iter().zip(times).all(|(a, b)| a.abs_diff(*b) <= CLOSE);
        assert!(is_close, "{times:?} ms expected: {tried}");
    }
}

async fn get(agent: &Agent) -> Result<Answer, Failure> {
    timeout(NEVER, agent.get(ASKED, 8140, "/puppet/v3/catalog/agent01.lab.test")).await.expect("it hangs")
}

/// Waits for the one line of the one connection.
async fn line(site: &Site) -> Line {
    let mut lines = site.journal.take(1).await;
    assert_eq!(lines.len(), 1, "one connection, more than one line");
    lines.remove(0)
}

/// Servers that go wrong in these ways, in this order, behind a shim that knows nothing of them.
async fn site(ills: &[Option<Ill>], check: bool) -> (Site, Shim) {
    let site = Site::start(ills).await;
    site.announce(&(0..ills.len()).collect::<Vec<_>>()).await;
    let shim = site.shim(check, |_| ()).await;
    (site, shim)
}

/// `count` servers go wrong, and the last is well. `times`: how long each of them has had, in ms, if it was silent.
async fn assert_passed_over(count: usize, times: &[u64]) {
    let _clock = Slow::by(TIMES);
    for cell @ Cell { ill, mode, check } in Cell::all() {
        println!("{count} times {cell:?}");
        let ills: Vec<_> = (0..=count).map(|n| (n < count).then_some(ill)).collect();
        let (site, shim) = site(&ills, check).await;
        let answer = get(&site.agent(&shim, mode)).await.unwrap();
        let well = &site.seats[count];
        assert_eq!((answer.response.status, answer.witness.server.as_str()), (200, well.server.name()));
        let line = line(&site).await;
        assert_eq!(line.get("addr"), Some(well.address().to_string().as_str()), "{line}");
        assert_eq!(["message", "status", "alert"].map(|field| line.get(field)), [Some("carried"), None, None]);
        let times = if SILENT.contains(&ill) { times } else { &[] };
        cell.assert_tried(line.get("tried").unwrap(), &site.seats, Heard::UntilAnother, times);
    }
}

#[tokio::test]
async fn the_first_goes_wrong() {
    assert_passed_over(1, &[250]).await;
}

/// Three are in flight at once; the fourth starts when the oldest has had 1.5 s.
#[tokio::test]
async fn all_but_the_last_go_wrong() {
    assert_passed_over(3, &[1500, 1250, 1000]).await;
}

/// The agent is told so within the budget, and the log says what each server did; where the agent can be told a
/// sentence, the sentence says it, too.
#[tokio::test]
async fn all_go_wrong() {
    let _clock = Slow::by(TIMES);
    for cell @ Cell { ill, mode, check } in Cell::all() {
        // One that drips will have answered, some time; one without the name is below.
        if matches!(ill, Ill::Drip | Ill::Unnamed) {
            continue;
        }
        println!("{cell:?}");
        // Each its own alert, so that it can be told whose is passed on.
        let alerts = [112, 40, 70, 71].map(|number| Some(Ill::Alert(number)));
        let ills = if matches!(ill, Ill::Alert(_)) { alerts } else { [Some(ill); 4] };
        let (site, shim) = site(&ills, check).await;
        let began = Instant::now();
        let failure = get(&site.agent(&shim, mode)).await.unwrap_err();
        let took = u64::try_from(began.elapsed().as_millis()).unwrap();
        let line = line(&site).await;
        let (status, why, ms, times): (_, _, _, &[u64]) = match ill {
            // Four are tried, three at a time, each has 2 s.
            Ill::BlackHole => (504, "no compile server reachable: ", 1500 + 2000, &[]),
            // They have accepted, so they may yet answer.
            Ill::Mute | Ill::Stuck if check => {
                // Each has had 3 s to show its certificate, which are not told.
                (504, "no compile server reachable within 15s: ", 15000, &[12000, 11750, 11500, 10500])
            }
            Ill::Mute | Ill::Stuck => {
                (504, "no compile server reachable within 15s: ", 15000, &[15000, 14750, 14500, 13500])
            }
            _ => (502, "no compile server reachable: ", 0, &[]),
        };
        assert!(took.abs_diff(ms) <= CLOSE, "{took} ms, not {ms}");
        let end = line.get("end").unwrap();
        let (start, tried) = end.split_at(why.len());
        assert_eq!(start, why);
        cell.assert_tried(tried, &site.seats, Heard::UntilEnd, times);
        cell.assert_tried(line.get("tried").unwrap(), &site.seats, Heard::UntilEnd, times);
        let fields = ["message", "status", "alert", "server"].map(|field| line.get(field));
        // CONNECT is answered when the first server accepts. Behind that answer there is only TLS.
        if mode == Mode::Proxy && matches!(ill, Ill::Refused | Ill::BlackHole) {
            assert_eq!(fields, [Some("refused"), Some(status.to_string().as_str()), None, None]);
            assert!(
                matches!(&failure, Failure::Refused { status: s, reason } if *s == status && reason == end),
                "{failure}"
            );
        } else {
            let alert = if matches!(ill, Ill::Alert(_)) { 112 } else { 80 };
            assert_eq!(fields, [Some("refused"), None, Some(alert.to_string().as_str()), None]);
            assert_eq!(failure.alert(), Some(AlertDescription::from(alert)), "{failure}");
        }
    }
}

/// A certificate without the name is no reason to have no server at all: the agent gets one, and its own verification
/// says what is wrong.
#[tokio::test]
async fn no_certificate_has_the_name() {
    let _clock = Slow::by(TIMES);
    for mode in Mode::ALL {
        let (site, shim) = site(&[Some(Ill::Unnamed); 4], true).await;
        let Failure::Tls(error) = get(&site.agent(&shim, mode)).await.unwrap_err() else { panic!("no TLS error") };
        let error = error.get_ref().unwrap().downcast_ref::<rustls::Error>().unwrap();
        let presents = |name: &str| format!("[\"DnsName(\\\"{name}\\\")\"]");
        let rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) = error
        else {
            panic!("{error}")
        };
        assert_eq!(format!("{presented:?}"), presents(site.seats[0].server.name()));
        let line = line(&site).await;
        let tried = line.get("tried").unwrap();
        let cell = Cell { ill: Ill::Unnamed, mode, check: true };
        let (passed_over, last_resort) = tried.rsplit_once("; ").unwrap();
        cell.assert_tried(passed_over, &site.seats, Heard::UntilEnd, &[]);
        assert_eq!(last_resort, format!("{} answered", site.seats[0].written()));
    }
}

/// Dead servers and one without the name: it is better than none.
#[tokio::test]
async fn only_one_without_the_name_lives() {
    let _clock = Slow::by(TIMES);
    for mode in Mode::ALL {
        let (site, shim) = site(&[Some(Ill::Unnamed), Some(Ill::Refused), Some(Ill::Reset)], true).await;
        let Failure::Tls(error) = get(&site.agent(&shim, mode)).await.unwrap_err() else { panic!("no TLS error") };
        assert!(error.to_string().contains("certificate not valid for name"), "{error}");
        let line = line(&site).await;
        assert_eq!(line.get("addr"), Some(site.seats[0].address().to_string().as_str()), "{line}");
    }
}

/// A byte a second is slow, and an answer.
#[tokio::test]
async fn all_drip() {
    let _clock = Slow::by(1000 * TIMES);
    for (mode, check) in [(Mode::Proxy, false), (Mode::Alias, false), (Mode::Proxy, true), (Mode::Alias, true)] {
        let (site, shim) = site(&[Some(Ill::Drip); 4], check).await;
        let answer = get(&site.agent(&shim, mode)).await.unwrap();
        assert_eq!((answer.response.status, answer.witness.server.as_str()), (200, site.seats[0].server.name()));
    }
}

/// A server that ends its own side behind its first response is well: it gets the connection, and what it said
/// arrives.
#[tokio::test]
async fn a_server_half_closes_behind_its_response() {
    let _clock = Slow::by(TIMES);
    for mode in Mode::ALL {
        for check in [false, true] {
            let (site, shim) = site(&[None; 4], check).await;
            site.seats[0].server.set_fault(Some(Fault::HalfClose));
            let mut connection = site.agent(&shim, mode).connect(ASKED, 8140).await.unwrap();
            let answer = connection.request("GET", "/first", b"").await.unwrap();
            assert_eq!((answer.response.status, answer.witness.server.as_str()), (200, site.seats[0].server.name()));
            connection.send("PUT", "/second", b"late").await.unwrap();
            connection.close().await;
            eventually("the late request has arrived", || site.seats[0].server.seen().len() == 2).await;
            assert_eq!(line(&site).await.get("tried"), Some(format!("{} answered", site.seats[0].written()).as_str()));
        }
    }
}
