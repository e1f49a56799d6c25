//! `puppet-shim setup` as an administrator meets it: what it shows, what it changes, and that it puts that back, however far it
//! had come.
//!
//! A script plays Puppet, with a `puppet.conf` that has no sections but `[main]` and `[agent]` behind it; the lab has the real one.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use puppet_shim::config;
use puppet_shim::puppet::{COMMAND_VARIABLE, Puppet};
use puppet_shim::setup::configuration::{Key, Wanted};
use puppet_shim::setup::draft::{Draft, FileChange};
use puppet_shim::setup::puppet_conf;
use puppet_shim::setup::record::{Book, Part, Record};
use puppet_shim::setup::undo::{Undone, undo};
use puppet_shim::setup::work::apply;
use puppet_shim::setup::{Mode, Places};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use support::command::{Host, output, text};
use support::dns::Dns;
use tokio::time::timeout;

/// What Puppet's own command does with a file, as far as it matters here. `sed` edits a line, or adds one below `[main]`.
const PUPPET: &str = r#"#!/bin/sh
conf=CONF
names=
newline='
'
[ "$1" = config ] || exit 9
action=$2
shift 2
while [ $# -gt 0 ]; do
    case $1 in
        --section) section=$2; shift ;;
        --render-as) shift ;;
        --config) conf=$2; shift ;;
        *) names="$names$1$newline" ;;
    esac
    shift
done
IFS=$newline
set -- $names
case $action in
    set)
        grep -q "^$1 = " "$conf" && exec sed -i "s|^$1 = .*|$1 = $2|" "$conf"
        grep -q '^\[main\]' "$conf" || echo '[main]' >>"$conf"
        exec sed -i "/^\[main\]/a $1 = $2" "$conf"
        ;;
    delete) exec sed -i "/^\[agent\]/,\$!{/^$1 = /d}" "$conf" ;;
    print)
        separator='{'
        for name; do
            value=$(sed -n "/^\[agent\]/q; s/^$name = //p" "$conf" 2>/dev/null)
            own=$(sed -n "/^\[agent\]/,\$s/^$name = //p" "$conf" 2>/dev/null)
            [ "$section" = agent ] && value=${own:-$value}
            case $name in
                config) value=$conf ;;
                *_server)
                    [ "${value:-\$server}" = '$server' ] && value=$(sed -n 's/^server = //p' "$conf")
                    ;;
                *port) value=${value:-8140} ;;
                pluginsource) value=${value:-puppet:///plugins} ;;
                pluginfactsource) value=${value:-puppet:///pluginfacts} ;;
                no_proxy) value=${value:-localhost, 127.0.0.1} ;;
            esac
            printf '%s"%s":"%s"' "$separator" "$name" "$value"
            separator=,
        done
        echo '}'
        ;;
esac
"#;

const PUPPET_CONF: &str = "# by the package\n[main]\nserver = puppet.lab.test\n\n# the end\n";

/// A host with an agent: the command's own files in `host`, Puppet's in a folder besides.
struct World {
    host: Host,
    folder: tempfile::TempDir,
    dns: Dns,
}

impl World {
    async fn new() -> Self {
        let dns = Dns::start().await;
        dns.set_srv("_x-puppet._tcp.lab.test", 60, &[(0, 0, 8140, "compile1.lab.test")]).await;
        dns.set_srv("_x-puppet-ca._tcp.lab.test", 60, &[(0, 0, 8140, "ca1.lab.test")]).await;
        for name in ["compile1.lab.test", "ca1.lab.test", "reports.lab.test"] {
            dns.set_addresses(name, 60, &["192.0.2.1".parse().unwrap()]).await;
        }
        // Nobody is at that address.
        let config = format!(
            "# by hand\ndomain = \"lab.test\"\ndns.servers = [\"{}\"]\ncertificates.check = false\n",
            dns.address()
        );
        let world = World { host: Host::new(&config), folder: tempfile::tempdir().unwrap(), dns };
        fs::write(world.conf(), PUPPET_CONF).unwrap();
        fs::set_permissions(world.conf(), fs::Permissions::from_mode(0o640)).unwrap();
        let puppet = PUPPET.replace("CONF", world.conf().to_str().unwrap());
        fs::write(world.puppet(), puppet).unwrap();
        fs::set_permissions(world.puppet(), fs::Permissions::from_mode(0o755)).unwrap();
        world
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("puppet.conf")
    }

    fn puppet(&self) -> PathBuf {
        self.folder.path().join("puppet")
    }

    /// Exit code, standard output, standard error.
    async fn setup(&self, args: &[&str]) -> (Option<i32>, String, String) {
        self.call(self.host.prefixed(as_root(), &[&["setup"], args].concat())).await
    }

    async fn call(&self, mut command: Command) -> (Option<i32>, String, String) {
        command.env(COMMAND_VARIABLE, self.puppet());
        for variable in ["http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"] {
            command.env_remove(variable);
        }
        let output = output(command).await;
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// What may have been changed.
    fn texts(&self) -> [String; 2] {
        [self.conf(), self.host.file()].map(|path| fs::read_to_string(path).unwrap())
    }
}

/// By which whoever runs the tests is root.
fn as_root() -> &'static [&'static str] {
    if geteuid().is_root() { &[] } else { &["unshare", "--map-root-user"] }
}

#[tokio::test]
async fn is_shown_then_done_then_undone() {
    let world = World::new().await;
    let before = world.texts();
    let (code, out, err) = world.setup(&["--mode", "proxy"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let puppet = world.puppet().display().to_string();
    for command in ["ca_server puppetca.lab.test", "http_proxy_host 127.0.0.1", "http_proxy_port 8139"] {
        assert!(out.contains(&format!("\n{puppet} config set {command} --section main\n")), "{command} in\n{out}");
    }
    assert!(out.contains("\n+ca_server = puppetca.lab.test\n server = puppet.lab.test\n"), "{out}");
    assert_eq!(world.texts(), before);
    assert!(!world.host.state().exists(), "to look leaves nothing behind");

    let (code, out, err) = world.setup(&["--mode", "proxy", "--apply"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let after = world.texts();
    assert!(after[0].contains("http_proxy_port = 8139\n"), "{}", after[0]);
    assert_eq!(fs::metadata(world.conf()).unwrap().permissions().mode() & 0o777, 0o640);
    let record = world.host.state().join("setup.json");
    assert_eq!(fs::metadata(record).unwrap().permissions().mode() & 0o777, 0o600, "puppet.conf may have a password");

    let (code, out, _) = world.setup(&["--mode", "proxy", "--apply"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "nothing to do: the agent comes to puppet-shim in proxy mode\n"));
    assert_eq!(world.texts(), after);

    let (code, out, err) = world.setup(&["--undo"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(world.texts(), before);
    assert!(!world.host.state().exists());
    let (code, out, _) = world.setup(&["--undo"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "nothing to undo: setup has changed nothing on this host\n"));
}

#[tokio::test]
async fn takes_out_its_own_and_no_more_where_others_have_written() {
    let world = World::new().await;
    fs::write(world.conf(), PUPPET_CONF.replace("\n\n", "\nca_server = $server\nca_port = 8140\n\n")).unwrap();
    let [before, _] = world.texts();
    assert_eq!(world.setup(&["--mode", "proxy", "--apply"]).await.0, Some(0));
    let [after, _] = world.texts();
    let edited = after.replace("http_proxy_port = 8139", "http_proxy_port = 3128") + "runinterval = 1h\n";
    fs::write(world.conf(), &edited).unwrap();

    let (code, out, err) = world.setup(&["--undo"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("\n-ca_server = puppetca.lab.test\n+ca_server = $server\n"), "{out}");
    assert!(out.contains("http_proxy_port is not what setup made it, and is left"), "{out}");
    let [conf, _] = world.texts();
    assert_eq!(conf, before.replace("[main]\n", "[main]\nhttp_proxy_port = 3128\n") + "runinterval = 1h\n");
}

/// Its directory too, which the service has to come through, whatever the umask. No nameserver of ours is in it, so the agent
/// has a server by address, on a port of loopback where nobody is.
#[tokio::test]
async fn a_configuration_that_is_not_there_comes_and_goes() {
    let world = World::new().await;
    let settings = "certname = agent01\nhttp_proxy_host = proxy.lab.test\nserver_list = 127.0.0.1:9\n";
    fs::write(world.conf(), PUPPET_CONF.replace("\n\n", &format!("\n{settings}\n"))).unwrap();
    let path = Path::new("etc/puppet-shim/puppet-shim.toml");
    let file = world.folder.path().join(path);
    let narrow = &["sh", "-c", "umask 077; exec \"$0\" \"$@\""];
    let setup = async |args: &[&str], file: &Path| {
        let mut command = world.host.with_file(file, &[as_root(), narrow].concat(), &[&["setup"], args].concat());
        command.current_dir(world.folder.path());
        world.call(command).await
    };
    let (code, out, err) = setup(&["--mode", "port", "--apply"], path).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let expected = "domain = \"lab.test\"\ncertname = \"agent01\"\nrole.compile.servers = [\"127.0.0.1:9\"]\n\
                    foreign = \"http://proxy.lab.test:8140\"\n";
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    let modes = [file.as_path(), file.parent().unwrap(), &world.folder.path().join("etc")];
    assert_eq!(modes.map(|path| fs::metadata(path).unwrap().permissions().mode() & 0o777), [0o644, 0o755, 0o755]);
    assert_eq!(world.setup(&["--undo"]).await.0, Some(0), "from another directory");
    assert!(!world.folder.path().join("etc").exists());
}

/// A site that lives by the agent's own list, whose `server` is a name that leads nowhere.
#[tokio::test]
async fn carries_the_agents_list_of_servers_over() {
    let world = World::new().await;
    world.dns.set_srv("_x-puppet._tcp.lab.test", 0, &[]).await;
    let conf = "[main]\nserver = puppet\nserver_list = compile1.lab.test:8141 , reports.lab.test\n\n# the end\n";
    fs::write(world.conf(), conf).unwrap();
    let [_, config] = world.texts();
    let (code, out, err) = world.setup(&["--mode", "proxy", "--apply"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let puppet = world.puppet().display().to_string();
    assert!(out.contains(&format!("\n{puppet} config delete server_list --section main\n")), "{out}");
    let servers = "role.compile.servers = [\"compile1.lab.test:8141\", \"reports.lab.test\"]\n";
    let line = "#   compile: puppet:8140, to compile1.lab.test:8141, reports.lab.test:8140 (by static)\n";
    assert!(out.contains(line), "{out}");
    let after = world.texts();
    assert_eq!(after[1], format!("{config}{servers}"));
    assert!(!after[0].contains("server_list"), "{}", after[0]);
    let (code, out, _) = world.setup(&["--mode", "proxy", "--apply"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "nothing to do: the agent comes to puppet-shim in proxy mode\n"));

    assert_eq!(world.setup(&["--undo"]).await.0, Some(0));
    assert_eq!(world.texts(), [conf.to_owned(), config.clone()]);

    // The same where somebody has written into both.
    assert_eq!(world.setup(&["--mode", "proxy", "--apply"]).await.0, Some(0));
    for (path, text) in [world.conf(), world.host.file()].into_iter().zip(world.texts()) {
        fs::write(path, text + "# by hand\n").unwrap();
    }
    assert_eq!(world.setup(&["--undo"]).await.0, Some(0));
    let [conf, text] = world.texts();
    assert!(conf.contains("\nserver_list = compile1.lab.test:8141 , reports.lab.test\n"), "{conf}");
    assert_eq!(text, format!("{config}# by hand\n"));
}

/// Servers that have a name of their own and no records go on as before; so does a name that the site has for all.
#[tokio::test]
async fn knows_the_names_that_the_agent_has() {
    let world = World::new().await;
    let conf = "[main]\nserver = primary.corp.test\nca_server = ca1.lab.test\nreport_server = reports.lab.test\n";
    fs::write(world.conf(), conf).unwrap();
    let (code, out, err) = world.setup(&["--mode", "proxy"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    for line in [
        "+role.compile.names = [\"puppet\", \"primary.corp.test\"]",
        "+role.report.names = [\"puppetreport\", \"reports.lab.test\"]",
        "+role.report.fallback = false",
    ] {
        assert!(out.lines().any(|one| one == line), "{line} in\n{out}");
    }
    assert!(err.contains("ca_server = ca1.lab.test names one of the servers of ca"), "{err}");
    assert!(!out.contains("role.ca"), "that name means that very server: {out}");
    assert!(out.contains("#   report: reports.lab.test:8140, to reports.lab.test:8140 (by the name itself)"), "{out}");
}

#[tokio::test]
async fn refuses_with_the_reason() {
    let world = World::new().await;
    let config = fs::read_to_string(world.host.file()).unwrap();
    world.host.configure(&config.replace("domain = \"lab.test\"\n", ""));
    for (server, mode, words) in [
        ("localhost", "proxy", "is no name that a server's certificate should have"),
        ("puppet.other.test", "alias", "alias mode needs SRV records"),
        (
            "puppet.other.test",
            "proxy",
            "role compile has no server that the agent could be taken to: puppet.other.test:8140",
        ),
        (
            "puppet.other.test",
            "port",
            "add SRV records (_x-puppet._tcp.other.test), or its servers to our configuration",
        ),
    ] {
        fs::write(world.conf(), format!("[main]\nserver = {server}\n")).unwrap();
        let before = world.texts();
        let (code, out, err) = world.setup(&["--mode", mode, "--apply"]).await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.lines().any(|line| line.starts_with("refused: ") && line.contains(words)), "{err}");
        assert_eq!(world.texts(), before);
        assert!(!world.host.state().exists());
    }
}

#[tokio::test]
async fn refuses_a_port_that_somebody_else_has() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = fs::read_to_string(world.host.file()).unwrap();
    world.host.configure(&format!("listen = [\"{address}\"]\n{config}"));
    let (code, _, err) = world.setup(&["--mode", "proxy", "--apply"]).await;
    assert_eq!(code, Some(1), "{err}");
    let words = format!("refused: {address} is taken by process {} (", std::process::id());
    assert!(err.lines().any(|line| line.starts_with(&words)), "{err}");
    drop(listener);
    let (code, out, err) = world.setup(&["--mode", "proxy", "--apply"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
}

/// By Puppet itself, which writes in front of a section that is empty.
#[test]
fn a_list_of_servers_comes_back_to_its_place() {
    let puppet = Puppet::find().unwrap();
    let text = "# stock\n[main]\nserver_list = a , b:8141\n";
    let wanted = [("http_proxy_host".to_owned(), Some("127.0.0.1".to_owned())), ("server_list".to_owned(), None)];
    let edited = puppet_conf::edit(&puppet, text, &wanted).unwrap();
    assert_eq!(edited.text, "# stock\n[main]\nhttp_proxy_host = 127.0.0.1\n");
    assert_eq!(edited.settings[1].was.as_deref(), Some("a , b:8141"));
    let since = edited.text + "# by hand\n";
    let (back, left) = puppet_conf::take_back(&puppet, &since, &edited.settings, true).unwrap();
    assert_eq!((back.as_str(), left.len()), ("# stock\n[main]\nserver_list = a , b:8141\n# by hand\n", 0));
}

/// What is written in `[agent]` goes before `[main]`, and setup writes there alone. Who just took a list of servers out would
/// lose it.
#[tokio::test]
async fn a_list_of_servers_for_the_agent_alone_is_to_be_moved() {
    let world = World::new().await;
    world.dns.set_srv("_x-puppet._tcp.lab.test", 0, &[]).await;
    let list = "compile1.lab.test,reports.lab.test";
    fs::write(world.conf(), format!("{PUPPET_CONF}[agent]\nserver_list = {list}\n")).unwrap();
    let (code, out, err) = world.setup(&["--mode", "proxy", "--apply"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    let puppet = world.puppet().display().to_string();
    let mend = format!(
        "which goes before [main]; have it there instead: {puppet} config set server_list {list} --section main && {puppet} config delete \
         server_list --section agent\n"
    );
    assert!(err.contains(&format!("[agent] in {} says server_list = {list}, {mend}", world.conf().display())), "{err}");
}

/// Without an answer it would take a site with a CA of its own for one without.
#[tokio::test]
async fn decides_nothing_while_dns_is_dead() {
    let world = World::new().await;
    // Port 9 of loopback: nobody is there.
    world.host.configure("domain = \"lab.test\"\ndns.servers = [\"127.0.0.1:9\"]\ndns.timeout = \"300ms\"\n");
    let before = world.texts();
    let (code, _, err) = world.setup(&["--mode", "proxy", "--apply"]).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("refused: DNS does not say which servers ca has, _x-puppet-ca._tcp.lab.test: "), "{err}");
    assert_eq!(world.texts(), before);
}

/// Puppet is in a process group of its own, and hears of no Ctrl-C.
#[tokio::test]
async fn an_interrupt_ends_puppet_too() {
    let world = World::new().await;
    let fifo = world.folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    fs::write(world.puppet(), format!("#!/bin/sh\nsleep 600 >{}; true\n", fifo.display())).unwrap();
    for args in [&["setup", "--mode", "proxy"][..], &["check"]] {
        let mut command = world.host.prefixed(as_root(), args);
        command.env(COMMAND_VARIABLE, world.puppet()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let (pid, fifo) = (Pid::from_child(&child), fifo.clone());
        let ended = tokio::task::spawn_blocking(move || {
            let mut child = child;
            // Once what Puppet has started is there.
            let mut pipe = fs::File::open(fifo).unwrap();
            kill_process(pid, Signal::INT).unwrap();
            // At its end once that is gone.
            pipe.read_to_end(&mut Vec::new()).unwrap();
            child.wait().unwrap()
        });
        let status = timeout(Duration::from_secs(60), ended).await.expect("it goes on").unwrap();
        assert_eq!(status.code(), Some(130), "{args:?}");
    }
}

#[tokio::test]
async fn only_root_changes_anything() {
    let world = World::new().await;
    let before = world.texts();
    let is_root = geteuid().is_root();
    let prefix: &[&str] = if is_root { &["unshare", "--user"] } else { &[] };
    for args in [&["setup", "--mode", "proxy", "--apply"][..], &["setup", "--undo"]] {
        let (code, out, err) = world.call(world.host.prefixed(prefix, args)).await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.ends_with(": run this as root\n"), "{err}");
    }
    assert_eq!(world.texts(), before);
}

#[tokio::test]
async fn says_what_is_wrong() {
    let world = World::new().await;
    world.host.configure("listen = 7\n");
    let (code, _, err) = world.setup(&["--mode", "proxy"]).await;
    assert_eq!(code, Some(78), "{err}");
    assert!(err.contains(":1:10: error: "), "{err}");

    world.host.configure("");
    fs::write(world.puppet(), "#!/bin/sh\necho 'Error: Could not parse it' >&2\n").unwrap();
    let (code, _, err) = world.setup(&["--mode", "proxy"]).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("Could not parse it"), "{err}");
}

// === cut short ===

/// Three files of three kinds, one of which is not there yet.
struct Cut {
    folder: tempfile::TempDir,
}

impl Cut {
    fn new() -> Self {
        let cut = Cut { folder: tempfile::tempdir().unwrap() };
        fs::write(cut.path("hosts"), "127.0.0.1 localhost\n").unwrap();
        fs::write(cut.path("puppet.conf"), "[main]\nserver = a\n").unwrap();
        cut
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn book(&self) -> Book {
        Book::at(self.path("record"))
    }

    fn places(&self) -> Places {
        Places {
            hosts: self.path("hosts"),
            systemd: self.path("no-systemd"),
            ..Places::of_host(self.path("new/shim.toml"))
        }
    }

    /// What is still to be done, as a second call would find it.
    fn draft(&self) -> Draft {
        let key = Key { path: vec!["foreign".into()], to: Wanted::Text("direct".into()), was: None, made: 1 };
        let changes = [
            ("new/shim.toml", "foreign = \"direct\"\n", Part::Keys(vec![key])),
            (
                "hosts",
                "127.0.0.1 localhost\n# BEGIN puppet-shim setup\n127.0.0.1 a\n# END puppet-shim setup\n",
                Part::Block,
            ),
            ("puppet.conf", "[main]\nserver = b\n", Part::Settings(Vec::new())),
        ];
        let change = |(name, after, part): (&str, &str, Part)| {
            let path = self.path(name);
            let before = fs::read_to_string(&path).ok();
            FileChange { path, before, after: after.into(), part }
        };
        let left: Vec<_> = changes.map(change).into_iter().filter(|c| c.before.as_ref() != Some(&c.after)).collect();
        Draft { ours: left, ..Draft::default() }
    }

    /// Ends where a kill, or a power cut, would end it: all is in the record, and `done` files are written.
    fn begin(&self, done: usize) {
        let draft = self.draft();
        let mut record = Record::new(Mode::Alias);
        for change in draft.files() {
            record.add(change.to_record(), change.before.as_deref());
        }
        let _lock = self.book().lock().unwrap();
        self.book().write(&record).unwrap();
        for change in draft.files().take(done) {
            fs::create_dir_all(change.path.parent().unwrap()).unwrap();
            fs::write(&change.path, &change.after).unwrap();
        }
    }

    fn undo(&self) -> Vec<Undone> {
        let record = self.book().read().unwrap().unwrap();
        let mut all = Vec::new();
        undo(&self.book(), &self.places(), record, Puppet::find, |undone| all.push(undone.clone())).unwrap();
        all
    }

    fn is_as_before(&self) {
        assert_eq!(fs::read_to_string(self.path("hosts")).unwrap(), "127.0.0.1 localhost\n");
        assert_eq!(fs::read_to_string(self.path("puppet.conf")).unwrap(), "[main]\nserver = a\n");
        assert!(!self.path("new").exists());
        assert!(!self.path("record").exists());
    }
}

#[test]
fn undo_works_however_far_it_had_come() {
    for done in 0..=3 {
        let cut = Cut::new();
        cut.begin(done);
        let undone = cut.undo();
        assert!(undone.iter().all(|undone| undone.is_whole));
        assert_eq!(undone.iter().filter(|undone| !undone.diff.is_empty()).count(), done);
        cut.is_as_before();
    }
}

#[test]
fn the_same_again_completes_it() {
    for done in 0..=3 {
        let cut = Cut::new();
        cut.begin(done);
        apply(&cut.book(), Mode::Alias, &cut.draft()).unwrap();
        assert!(cut.draft().is_empty());
        let record = cut.book().read().unwrap().unwrap();
        assert!(record.is_done);
        cut.undo();
        cut.is_as_before();
    }
}

/// Between the plan and the write there are the seconds that Puppet takes.
#[test]
fn what_somebody_writes_meanwhile_is_not_lost() {
    let cut = Cut::new();
    let draft = cut.draft();
    let lock = cut.book().lock().unwrap();
    fs::write(cut.path("hosts"), "192.0.2.1 new\n").unwrap();
    let error = apply(&cut.book(), Mode::Alias, &draft).unwrap_err().to_string();
    assert!(error.contains("hosts is left: somebody has changed it meanwhile; run the same again"), "{error}");
    assert!(error.ends_with("the same again completes it, `puppet-shim setup --undo` puts it back"), "{error}");
    assert_eq!(fs::read_to_string(cut.path("hosts")).unwrap(), "192.0.2.1 new\n");
    drop(lock);
    cut.undo();
    assert_eq!(fs::read_to_string(cut.path("hosts")).unwrap(), "192.0.2.1 new\n");
    assert!(!cut.path("new").exists() && !cut.path("record").exists());
}

/// An agent that has been sent where nobody listens reaches no server, not even to have that mended.
#[test]
fn the_agent_is_sent_nowhere_where_nobody_listens() {
    let cut = Cut::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let draft = || {
        let mut draft = Draft { listens: vec![address], ..cut.draft() };
        let (ours, agents) = draft.ours.drain(..).partition(|change| change.path.starts_with(cut.path("new")));
        (draft.ours, draft.agents) = (ours, agents);
        draft
    };
    drop(listener);
    let lock = cut.book().lock().unwrap();
    let error = apply(&cut.book(), Mode::Alias, &draft()).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("nobody listens on {address}, so the agent has not been sent there")),
        "{error}"
    );
    assert!(cut.path("new/shim.toml").exists());
    assert_eq!(fs::read_to_string(cut.path("hosts")).unwrap(), "127.0.0.1 localhost\n");
    assert_eq!(fs::read_to_string(cut.path("puppet.conf")).unwrap(), "[main]\nserver = a\n");

    let _listener = TcpListener::bind(address).unwrap();
    apply(&cut.book(), Mode::Alias, &draft()).unwrap();
    assert!(cut.draft().is_empty());
    drop(lock);
    cut.undo();
    cut.is_as_before();
}

/// An undo that was cut short goes on. One in which a file cannot be written puts the others back, but for puppet-shim itself
/// as long as the agent may be led there.
#[test]
fn an_undo_can_be_cut_short_too() {
    for (blocked, undone) in
        [("hosts", &["puppet.conf"][..]), ("puppet.conf", &["hosts"]), ("new/shim.toml", &["puppet.conf", "hosts"])]
    {
        let cut = Cut::new();
        cut.begin(3);
        let path = cut.path(blocked);
        let text = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let record = cut.book().read().unwrap().unwrap();
        let mut told = Vec::new();
        let error = undo(&cut.book(), &cut.places(), record, Puppet::find, |undone| told.push(undone.path.clone()))
            .unwrap_err();
        assert!(error.to_string().contains(blocked), "{error}");
        assert_eq!(told, undone.iter().map(|name| cut.path(name)).collect::<Vec<_>>());
        let left = cut.book().read().unwrap().unwrap();
        assert!(left.change(&path).is_some() && !left.is_done);
        assert_eq!(left.changes.len(), 3 - undone.len());
        fs::remove_dir(&path).unwrap();
        fs::write(&path, text).unwrap();
        cut.undo();
        cut.is_as_before();
    }
}

#[test]
fn the_places_are_those_of_the_packages() {
    let places = Places::of_host(config::default_file());
    let script = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/leave-puppet")).unwrap();
    let record = format!("\nreadonly RECORD={}\n", Book::of_host().file().display());
    assert!(script.contains(&record), "the packages find the record");
    assert_eq!(places.hosts, Path::new("/etc/hosts"));
    assert_eq!(places.drop_in, Path::new("/etc/systemd/system/puppet-shim.socket.d/setup.conf"));
}
