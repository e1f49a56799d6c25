//! The way of a role's last connections as a drawing: who asked, the listener, the role, the servers. Twice, for a wide
//! window and for a narrow one; the style shows one of them. No io.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::span::latency;
use super::way::{Asked, Counts, End, Goal, Way};
use crate::status::{Ending, RankStatus, ServerStatus, Standing};

/// Pixels of a box's height, and between two.
const BOX: i32 = 46;
const GAP: i32 = 12;

/// A line's width where it stands for all connections, and where for the least.
const WIDEST: i32 = 14;
const THINNEST: i32 = 2;

/// How the boxes lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// In four columns.
    Wide,
    /// One below the other, each level further in.
    Narrow,
}

/// Where a box is.
#[derive(Clone, Copy)]
struct Place {
    x: i32,
    y: i32,
    width: i32,
}

/// A box.
struct Node {
    place: Place,
    title: String,
    note: String,
    /// How a server stands.
    rank: Option<RankStatus>,
    class: &'static str,
}

/// A line between two boxes.
struct Edge {
    from: Place,
    to: Place,
    /// For a screen reader, and under the pointer.
    title: String,
    strokes: Vec<Stroke>,
}

struct Stroke {
    class: &'static str,
    width: i32,
}

/// The drawing, for each width of the window.
pub(super) fn drawing(way: &Way<'_>, listener: &str) -> Markup {
    html! {
        @for (layout, name) in [(Layout::Wide, "wide"), (Layout::Narrow, "narrow")] {
            (draw(way, listener, layout, name))
        }
    }
}

fn draw(way: &Way<'_>, listener: &str, layout: Layout, name: &str) -> Markup {
    let places = Places::new(layout, way.asked.len().max(1), way.goals.len().max(1));
    let (nodes, edges) = (nodes(way, listener, &places), edges(way, &places));
    let (title, text) = (format!("title-{name}-{}", way.role.role), format!("text-{name}-{}", way.role.role));
    html! {
        svg class={ "way " (name) } viewBox={ "0 0 " (places.width) " " (places.height) } role="img"
            aria-labelledby={ (title) " " (text) } {
            title id=(title) { "The way of the last connections for " (way.role.role) }
            desc id=(text) { (way.words()) }
            g { @for edge in &edges { (line(edge, layout)) } }
            @for node in &nodes { (boxed(node)) }
        }
    }
}

fn boxed(node: &Node) -> Markup {
    let Place { x, y, width } = node.place;
    let inset = if node.rank.is_some() { 32 } else { 12 };
    let room = width - inset - 8;
    html! {
        g class={ "node " (node.class) } transform={ "translate(" (x) " " (y) ")" } {
            title { (node.title) ": " (node.note) }
            rect width=(width) height=(BOX) rx="8" {}
            @if let Some(rank) = node.rank { (mark(rank)) }
            text class="name" x=(inset) y="20" { (shortened(&node.title, room / 7)) }
            text class="note" x=(inset) y="36" { (shortened(&node.note, room / 6)) }
        }
    }
}

/// By its shape, too: not everybody tells the colours apart.
fn mark(rank: RankStatus) -> Markup {
    html! {
        @match rank {
            RankStatus::Good => { circle class="good" cx="16" cy="23" r="6" {} },
            RankStatus::Slow => { path class="slow" d="M16 16 L23 29 H9 Z" {} },
            RankStatus::Down => { path class="down" d="M10.5 17.5 l11 11 m0 -11 l-11 11" {} },
        }
    }
}

fn line(edge: &Edge, layout: Layout) -> Markup {
    let all: i32 = edge.strokes.iter().map(|stroke| stroke.width).sum();
    let mut before = 0;
    html! {
        g class="edge" {
            title { (edge.title) }
            @for stroke in &edge.strokes {
                @let shift = before + (stroke.width - all) / 2;
                ({ before += stroke.width; "" })
                path class=(stroke.class) stroke-width=(stroke.width) d=(curve(edge, layout, shift)) {}
            }
        }
    }
}

/// `shift`: of strokes that lie side by side.
fn curve(edge: &Edge, layout: Layout, shift: i32) -> String {
    let Edge { from, to, .. } = edge;
    let mut path = String::new();
    // Writing to a String cannot fail.
    let _ = match layout {
        Layout::Wide => {
            let (x1, y1, x2, y2) = (from.x + from.width, from.y + BOX / 2 + shift, to.x, to.y + BOX / 2 + shift);
            let middle = i32::midpoint(x1, x2);
            write!(path, "M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}")
        }
        Layout::Narrow => {
            let (x1, y1, x2, y2) = (from.x + 11 + shift, from.y + BOX, to.x, to.y + BOX / 2 + shift);
            write!(path, "M{x1} {y1} V{} Q{x1} {y2} {} {y2} H{x2}", y2 - 8, x1 + 8)
        }
    };
    path
}

/// Where everything is.
struct Places {
    width: i32,
    height: i32,
    asked: Vec<Place>,
    shim: Place,
    role: Place,
    goals: Vec<Place>,
}

impl Places {
    fn new(layout: Layout, asked: usize, goals: usize) -> Self {
        match layout {
            Layout::Wide => Places::wide(asked, goals),
            Layout::Narrow => Places::narrow(asked, goals),
        }
    }

    fn wide(asked: usize, goals: usize) -> Self {
        let all = BOX * count(asked.max(goals)) + GAP * (count(asked.max(goals)) - 1);
        let column = |x, width, boxes: usize| -> Vec<Place> {
            let own = BOX * count(boxes) + GAP * (count(boxes) - 1);
            let top = 2 + (all - own) / 2;
            (0..count(boxes)).map(|n| Place { x, y: top + n * (BOX + GAP), width }).collect()
        };
        let one = |x, width| Place { x, y: 2 + (all - BOX) / 2, width };
        Places {
            width: 1000,
            height: all + 4,
            asked: column(2, 264, asked),
            shim: one(336, 150),
            role: one(546, 120),
            goals: column(726, 272, goals),
        }
    }

    fn narrow(asked: usize, goals: usize) -> Self {
        let mut y = 2 - BOX - GAP;
        let mut next = |level: i32| {
            y += BOX + GAP;
            Place { x: 2 + 22 * level, y, width: 356 - 22 * level }
        };
        let asked = (0..asked).map(|_| next(0)).collect();
        let (shim, role) = (next(1), next(2));
        let goals = (0..goals).map(|_| next(3)).collect();
        Places { width: 360, height: y + BOX + 2, asked, shim, role, goals }
    }
}

/// There are a dozen boxes at most.
fn count(boxes: usize) -> i32 {
    i32::try_from(boxes).unwrap_or(i32::MAX / 100)
}

fn nodes(way: &Way<'_>, listener: &str, places: &Places) -> Vec<Node> {
    let node = |place: &Place, title: &str, note: &str, class| Node {
        place: *place,
        title: title.into(),
        note: note.into(),
        rank: None,
        class,
    };
    let mut nodes = Vec::new();
    if way.asked.is_empty() {
        nodes.extend(places.asked.first().map(|place| node(place, "agent", "has not asked lately", "idle")));
    }
    for (place, Asked { what, via, counts }) in places.asked.iter().zip(&way.asked) {
        let how = match via.as_str() {
            "connect" => "asked of the proxy, ",
            "tls" => "asked by TLS, ",
            "http" => "plain HTTP, ",
            _ => "",
        };
        nodes.push(node(place, what, &format!("{how}{}\u{d7}", counts.all()), "asked"));
    }
    nodes.push(node(&places.shim, "puppet-shim", listener, "shim"));
    let tunnels = match way.role.tunnels_open {
        0 => "no tunnel open".to_owned(),
        1 => "1 tunnel open".to_owned(),
        many => format!("{many} tunnels open"),
    };
    nodes.push(node(&places.role, &way.role.role, &tunnels, "role"));
    for (place, goal) in places.goals.iter().zip(&way.goals) {
        nodes.push(goal_node(place, goal));
    }
    if way.goals.is_empty() {
        nodes.extend(places.goals.first().map(|place| node(place, "servers", "none known yet", "idle")));
    }
    nodes
}

fn goal_node(place: &Place, goal: &Goal<'_>) -> Node {
    let (mut note, mut rank, mut class) = (Vec::new(), None, "server");
    match &goal.end {
        End::Server(server) => {
            rank = Some(server.rank);
            note = stands(server);
        }
        End::Other(_) => note.push("none of the role's own".to_owned()),
        End::More(_) => note.push("servers".to_owned()),
        End::Nowhere => {
            class = "nowhere";
            note.push("the agent was refused".to_owned());
        }
    }
    if goal.counts.all() > 0 {
        note.push(format!("{}\u{d7}", goal.counts.all()));
    }
    if goal.in_vain > 0 {
        note.push(format!("{}\u{d7} in vain", goal.in_vain));
    }
    Node { place: *place, title: goal.end.name(), note: note.join(", "), rank, class }
}

fn stands(server: &ServerStatus) -> Vec<String> {
    let mut words = vec![match (server.rank, &server.cause) {
        (RankStatus::Good, _) if server.is_current && server.standing() == Standing::WrongName => {
            "wrong name".to_owned()
        }
        (RankStatus::Good, _) if server.is_current => "good".to_owned(),
        (RankStatus::Good, _) => "not the role's any more".to_owned(),
        (RankStatus::Slow, _) => "slow".to_owned(),
        (RankStatus::Down, Some(cause)) => format!("down: {cause}"),
        (RankStatus::Down, None) => "down".to_owned(),
    }];
    words.extend(server.usual_seconds.map(latency));
    if server.is_pinned {
        words.push("has the run".into());
    }
    words
}

fn edges(way: &Way<'_>, places: &Places) -> Vec<Edge> {
    let all = way.counts.all();
    let mut edges = Vec::new();
    let edge = |from: &Place, to: &Place, title: String, counts: Counts| Edge {
        from: *from,
        to: *to,
        title,
        strokes: strokes(counts, all),
    };
    if way.asked.is_empty() {
        edges.extend(places.asked.first().map(|p| edge(p, &places.shim, "nothing lately".into(), Counts::default())));
    }
    for (place, asked) in places.asked.iter().zip(&way.asked) {
        edges.push(edge(place, &places.shim, format!("{}: {}", asked.what, asked.counts.words()), asked.counts));
    }
    let words = if all > 0 { way.counts.words() } else { "nothing lately".into() };
    edges.push(edge(&places.shim, &places.role, words, way.counts));
    for (place, goal) in places.goals.iter().zip(&way.goals) {
        let mut title = format!("{}: {}", goal.end.name(), goal.counts.words());
        let mut strokes = strokes(goal.counts, all);
        if goal.in_vain > 0 {
            let _ = write!(title, " tried in vain {}\u{d7}", goal.in_vain);
            strokes.retain(|stroke| stroke.class != "none");
            strokes.push(Stroke { class: "vain", width: THINNEST });
        }
        edges.push(Edge { from: places.role, to: *place, title, strokes });
    }
    if way.goals.is_empty() {
        let place = places.goals.first();
        edges.extend(place.map(|place| edge(&places.role, place, "nothing lately".into(), Counts::default())));
    }
    edges
}

/// Side by side, as wide as their share of all connections.
fn strokes(counts: Counts, all: u64) -> Vec<Stroke> {
    if counts.all() == 0 {
        return vec![Stroke { class: "none", width: THINNEST }];
    }
    let width = |count: u64| i32::try_from(count * u64::from(WIDEST.unsigned_abs()) / all.max(1)).unwrap_or(WIDEST);
    let class = |ending| match ending {
        Ending::Carried => "carried",
        Ending::Broken => "broken",
        Ending::Refused => "refused",
    };
    counts.each().map(|(ending, count)| Stroke { class: class(ending), width: width(count).max(THINNEST) }).collect()
}

/// To so many characters, from the middle, for a port at the end is worth having.
fn shortened(text: &str, room: i32) -> String {
    let (room, length) = (usize::try_from(room).unwrap_or(0), text.chars().count());
    if length <= room || room < 4 {
        return text.into();
    }
    let tail = if text.rsplit(':').next().is_some_and(|port| port.len() < 6) { 6.min(room / 2) } else { 0 };
    let head: String = text.chars().take(room - tail - 1).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{head}\u{2026}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{RoleStatus, Status};

    #[test]
    fn long_names_keep_their_port() {
        assert_eq!(shortened("short:8140", 20), "short:8140");
        assert_eq!(shortened("a-very-long-name-indeed.example.com:8140", 20), "a-very-long-n\u{2026}m:8140");
        assert_eq!(shortened("words that are too long", 10), "words tha\u{2026}");
        assert!(shortened(&"x".repeat(99), 12).chars().count() <= 12);
    }

    /// Boxes that lie on each other, or out of the picture, could not be read.
    #[test]
    fn boxes_have_their_own_places() {
        for (asked, goals) in [(1, 1), (4, 1), (1, 8), (3, 4), (4, 8)] {
            for layout in [Layout::Wide, Layout::Narrow] {
                let places = Places::new(layout, asked, goals);
                let all: Vec<Place> =
                    [&places.asked[..], &[places.shim, places.role], &places.goals[..]].concat().into_iter().collect();
                assert_eq!(all.len(), asked + goals + 2);
                for (nth, a) in all.iter().enumerate() {
                    assert!(a.x >= 0 && a.x + a.width <= places.width && a.y >= 0 && a.y + BOX <= places.height);
                    for b in &all[nth + 1..] {
                        let beside = a.x + a.width <= b.x || b.x + b.width <= a.x;
                        assert!(beside || a.y + BOX <= b.y || b.y + BOX <= a.y, "{asked} {goals}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_role_that_nobody_uses_has_a_drawing_too() {
        let status =
            Status { roles: vec![RoleStatus { role: "x".into(), ..RoleStatus::default() }], ..Status::default() };
        let text = drawing(&Way::of(&status, &status.roles[0]), "127.0.0.1:8139").into_string();
        assert!(text.contains("None of the last connections was for this role.") && text.contains("none known yet"));
        assert_eq!(text.matches("<svg ").count(), 2);
    }
}
