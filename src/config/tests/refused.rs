//! Text that no configuration can be made of.

use super::*;

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    refused(&[
        ("listn = 1", 1, "listn", "hint: did you mean `listen`?"),
        ("\n\ndashbord = ''", 3, "dashbord", "unknown key `dashbord`"),
        ("[cache]\nmem = '1MiB'", 2, "cache.mem", "known here: `dir`, `memory`"),
        ("[cache]\nmin-free = '1MiB'", 2, "cache.min-free", "did you mean `min_free`?"),
        ("[cache]\nlisten = []", 2, "cache.listen", "belongs above the first `[…]`"),
        ("dir = '/x'", 1, "dir", "`dir` belongs in `[cache]`"),
        ("tag_ttl = '1s'", 1, "tag_ttl", "`tag_ttl` belongs in `[registry.\"…\"]`"),
        (
            "[registry.'a.b']\n\nupstram = 'https://a.b'",
            3,
            "registry.\"a.b\".upstram",
            "did you mean `upstream`?",
        ),
        ("[registry.'a.b']\npull = true", 2, "registry.\"a.b\".pull", "unknown key `pull`"),
        (
            "[registry.'a.b']\nupstream = [{ urll = '' }]",
            2,
            "registry.\"a.b\".upstream[0].urll",
            "did you mean `url`?",
        ),
        (
            "[registry.'a.b'.upstream]\nurl = ''\nmax_connections = 1",
            3,
            "registry.\"a.b\".upstream.max_connections",
            "belongs in `[registry",
        ),
        (
            "[registry.'a.b']\nauth.pasword = 'hunter2'",
            2,
            "registry.\"a.b\".auth.pasword",
            "did you mean `password`?",
        ),
        ("[registri.'a.b']", 1, "registri", "did you mean `registry`?"),
        ("'a\\u001b[2J' = 1\n", 1, "\"a\\u001b[2J\"", "unknown key"),
        ("\"a\\u001b[2J\" = 1\n", 1, "\"a\\u{1b}[2J\"", "unknown key `a\\u{1b}[2J`"),
    ]);
}

#[test]
fn types_are_checked_and_values_not_shown() {
    refused(&[
        ("listen = 5000", 1, "listen", "expected a string or a list, not an integer"),
        ("listen = [5000]", 1, "listen", "expected a string, not an integer"),
        ("shutdown_grace = 30", 1, "shutdown_grace", "a duration also needs its unit"),
        ("cache = 'x'", 1, "cache", "expected a table, not a string"),
        ("registry = []", 1, "registry", "expected a table, not a list"),
        ("registry.'a.b' = 'x'", 1, "registry.\"a.b\"", "expected a table, not a string"),
        ("[cache]\nmemory = 67108864", 2, "cache.memory", "put it in quotes"),
        ("[import]\nkeys = 'none.pub'", 2, "import.keys", "there is no such file"),
        ("[import]\nkeys = ['config.toml']", 2, "import.keys", "it has no public key"),
        ("[[warm]]\nimages = ['a', '/b']", 2, "warm[0].images", "not the name of an image"),
        (
            "[[warm]]\nimages = ['a']\nplatforms = ['amd64']",
            3,
            "warm[0].platforms",
            "write `linux/amd64`",
        ),
        ("[[warm]]\nevery = '1h'", 1, "warm", "neither `images` nor `pulled`"),
        ("[[warm]]\nimages = ['a']\nwithin = '1h'", 3, "warm[0].within", "has no `pulled`"),
        ("[[warm]]\npulled = 0", 2, "warm[0].pulled", "from 1 on"),
        ("[[warm]]\nimages = ['a']\nevery = '0s'", 3, "warm[0].every", "more than 0"),
        ("[[warm]]\nimages = ['a']\nevery = '59s'", 3, "warm[0].every", "less than a minute"),
        ("[registry.x]\ndefault = 'true'", 2, "registry.x.default", "write it without quotes"),
        ("[registry.x]\nupstream = 5", 2, "registry.x.upstream", "expected a string or a list"),
        ("[registry.x]\nupstream = [5]", 2, "registry.x.upstream", "a table with a `url`"),
        ("[registry.x]\nmax_connections = 0", 2, "registry.x.max_connections", "from 1 to 65535"),
        ("[registry.x]\nmax_connections = -1", 2, "registry.x.max_connections", "from 1 to 65535"),
        ("[registry.x]\nmax_connections = 65536", 2, "registry.x.max_connections", "to 65535"),
        ("[registry.x]\nmax_connections = 1e3", 2, "registry.x.max_connections", "an integer, not"),
        (
            "[registry.x]\nmax_connections = 99999999999999999999",
            2,
            "registry.x.max_connections",
            "",
        ),
        ("[registry.x]\nauth = 'hunter2'", 2, "registry.x.auth", "expected a table or a list of"),
        ("[registry.x]\nauth = [5]", 2, "registry.x.auth", "expected a table, not an integer"),
        ("[registry.x]\nauth.password = 12", 2, "registry.x.auth.password", "expected a string"),
    ]);
}

#[test]
fn amounts_and_addresses_are_checked() {
    refused(&[
        ("listen = []", 1, "listen", "there is no address to listen on"),
        ("listen = ''", 1, "listen", "not an IP address with a port"),
        ("listen = ['127.0.0.1']", 1, "listen", "not an IP address with a port"),
        ("listen = ['localhost:5000']", 1, "listen", "not an IP address with a port"),
        ("listen = ['127.0.0.1:65536']", 1, "listen", "not an IP address with a port"),
        ("listen = ['127.0.0.1:1', '127.0.0.1:1']", 1, "listen", "listed twice"),
        ("listen = ['0.0.0.0:1', '[::]:1']", 1, "listen", "`[::]:1` and `0.0.0.0:1` overlap\n"),
        ("listen = ['[::]:1', '127.0.0.1:1']", 1, "listen", "hint: keep the wider one"),
        ("listen = ['[::1]:1', '[::]:1']", 1, "listen", "overlap"),
        ("listen = ['0.0.0.0:1', '127.0.0.1:1']", 1, "listen", "overlap"),
        (
            "[[listener]]\naddress = '[::]:1'\n[[listener]]\naddress = '0.0.0.0:1'",
            4,
            "listener[1].address",
            "overlap",
        ),
        (
            "listen = '0.0.0.0:1'\nadmin_listen = '127.0.0.1:1'",
            2,
            "admin_listen",
            "clients are served on",
        ),
        ("shutdown_grace = '-5s'", 1, "shutdown_grace", "is not a duration"),
        ("shutdown_grace = '100000000000000000000s'", 1, "shutdown_grace", "is too long"),
        ("[cache]\nmemory = '10XB'", 2, "cache.memory", "`10XB` is not a size"),
        ("[cache]\nmemory = '-1'", 2, "cache.memory", "`-1` is not a size"),
        ("[cache]\nmemory = '0'", 2, "cache.memory", "`0` is nothing"),
        ("[cache]\nmemory = '1e99 TiB'", 2, "cache.memory", "is not a size"),
        ("[cache]\nmin_free = '99999999EiB'", 2, "cache.min_free", "is too much"),
        ("[cache]\nfill_keep = '0s'", 2, "cache.fill_keep", "`0s` is nothing"),
        ("[cache]\nstale_wait = '2'", 2, "cache.stale_wait", "is not a duration"),
        ("[cache]\ndir = ''", 2, "cache.dir", "not a path"),
        ("[cache]\ndir = 'cache'", 2, "cache.dir", "`cache` is a relative path"),
        ("[cache]\ndir = '/etc/'", 2, "cache.dir", "belongs to the system"),
        ("[cache]\ndir = '/dev/null'", 2, "cache.dir", "is not a directory"),
        ("[registry.'a.b']\ntag_ttl = 'x'", 2, "registry.\"a.b\".tag_ttl", "is not a duration"),
        ("[registry.'a.b']\nmax_stale = '-1d'", 2, "registry.\"a.b\".max_stale", "not a duration"),
    ]);
}

#[test]
fn what_is_not_toml_is_refused_where_it_stops() {
    let deep = format!("listen = {}", "[".repeat(100_000));
    let dotted = format!("{}x = 1", "a.".repeat(100_000));
    let rows: [(&[u8], usize, &str); 13] = [
        (b"listen = [", 1, "unclosed array"),
        (b"listen", 1, "expected `=`"),
        (b"a = 1\na = 2", 2, "duplicate key `a`"),
        (b"[cache]\nmemory = '1MiB'\nmemory = '2MiB'", 3, "duplicate key `memory`"),
        (b"[cache]\n[cache]", 2, "duplicate"),
        (b"[cache]\nx = \"abc", 2, "basic string"),
        (b"\n\nlisten = \"\xff\"", 3, "this is not UTF-8"),
        (b"\xff\xfel\0i\0", 1, "the file is UTF-16"),
        (b"[cache]\n# \0", 2, "there is a NUL character"),
        (b"\xef\xbb\xbfx = 1", 1, "unknown key"),
        (b"[cache]\r\n\r\nx = 1\r\n", 3, "unknown key"),
        (deep.as_bytes(), 1, "recursion"),
        (dotted.as_bytes(), 1, "recursion"),
    ];
    for (bytes, want_line, want) in rows {
        let shown_text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let problem = Case::of(bytes).problems().remove(0);
        let shown = problem.to_string();
        assert_eq!(line(&problem), want_line, "{shown_text}\n{shown}");
        assert!(shown.contains(want), "{shown_text}\n{shown}");
    }
}

/// A file that is being written while it is read is either refused or still means something.
#[test]
fn a_file_cut_off_anywhere_is_parsed_or_refused() {
    let whole = "listen = ['127.0.0.1:1', '[::1]:1']\nshutdown_grace = \"1m\"\n[cache]\n\
                 dir = '/c'\nmemory = '1.5GiB' # ü\n[registry.\"a.b:1\"]\nprefix = \"\"\"x.y\"\"\"\n\
                 upstream = [{ url = 'https://a.b', auth = { type = 'basic', username = 'u', \
                 password = 'hunter2' } }]\nmax_connections = 10\n[registry.'docker.io']\n\
                 default = false\ntoken_hosts = ['x.y:1']\n";
    assert_eq!(Case::of(whole).settings().registries.len(), 2);
    for end in 0..whole.len() {
        if let Err(problems) = Case::of(&whole.as_bytes()[..end]).load() {
            let shown = problems.to_string();
            assert!(shown.starts_with("error: ") && !shown.contains("hunter2"), "{end}: {shown}");
        }
    }
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let text = "listn = []\n[cache]\nmemory = 5\nmemoryy = 1\n[registry.'a.b']\ndefault = 1\n\
                upstream = [{ x = 1, y = 2 }]\n";
    let mut lines: Vec<usize> = Case::of(text).problems().iter().map(line).collect();
    lines.sort_unstable();

    assert_eq!(lines, [1, 3, 4, 6, 7, 7]);

    let many = (0..1000).map(|n| format!("x{n} = 1")).collect::<Vec<_>>().join("\n");
    assert_eq!(Case::of(many).problems().len(), 20);
}

/// Reading must stay quick however silly the file: a reload happens while clients are served.
#[test]
fn large_files_are_bounded() {
    let many: Vec<_> = (0..2000).map(|n| format!("[registry.'r{n}.corp']")).collect();
    assert_eq!(Case::of(many.join("\n")).settings().registries.len(), 2000);

    let problem = Case::of(vec![b'#'; (10 << 20) + 1]).problems().remove(0);
    assert_eq!(problem.what, "the file has more than 10485760 bytes");
}
