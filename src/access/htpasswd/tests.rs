//! Files of users, good and bad. The hashes were made by `htpasswd` of apache2-utils and by
//! `argon2`, for the password `hunter2`.

use super::*;

/// `htpasswd -nbB -C 4`
const BCRYPT: &str = "$2y$04$LrWkUKWMewIRIcqaqj6.auhkwWKAnaqM7VfbVpHBYOFz1xfSVQf7a";

fn users(text: &str) -> UserTable {
    UserTable::parse(text.as_bytes()).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
}

fn faults(bytes: impl AsRef<[u8]>) -> Vec<(usize, LineFault)> {
    let bad = UserTable::parse(bytes.as_ref()).expect_err("it must be refused");
    assert!(!format!("{bad:?}").contains("hunter2"));
    bad.into_iter().map(|bad| (bad.line, bad.fault)).collect()
}

fn is_in(users: &UserTable, user: &str, password: &str) -> bool {
    users.verify(user, &SecretString::from(password))
}

fn argon2(params: Params) -> String {
    use argon2::password_hash::PasswordHasher as _;
    let hasher = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    hasher.hash_password_with_salt(b"hunter2", b"saltsaltsalt").unwrap().to_string()
}

#[test]
fn each_kind_of_hash_accepts_its_password_and_no_other() {
    let argon2 = argon2(Params::new(64, 1, 1, None).unwrap());
    let (a, b) = (BCRYPT.replacen("2y", "2a", 1), BCRYPT.replacen("2y", "2b", 1));
    let text = format!("# people\n\ny:{BCRYPT}\r\na:{a}\nb:{b}\nzoë:{argon2}\n");
    let users = users(&text);
    for user in ["y", "a", "b", "zoë"] {
        assert!(users.contains(user));
        assert!(is_in(&users, user, "hunter2"), "{user}");
        for wrong in ["", "hunter", "hunter22", "Hunter2", "hunter2\n"] {
            assert!(!is_in(&users, user, wrong), "{user} {wrong:?}");
        }
    }
    // An unknown user is verified against the hash of another one, which must not let it in.
    for unknown in ["", "x", "Y", "y ", "zoe", "zoe\u{308}", "# people"] {
        assert!(!users.contains(unknown) && !is_in(&users, unknown, "hunter2"), "{unknown}");
    }
}

/// The hash that is computed when this user logs in, and whether the user gets in if it is said to
/// match.
fn computed(users: &UserTable, user: &str) -> (String, bool) {
    let mut hashes = Vec::new();
    let is_in = users.verify_by(user, &SecretString::from("wrong"), |hash, password| {
        assert_eq!(password.expose_secret(), "wrong");
        hashes.push(hash.expose_secret().to_owned());
        true
    });
    assert_eq!(hashes.len(), 1, "{user}");
    (hashes.remove(0), is_in)
}

/// A login's time would tell which users exist if it were spent for those alone.
#[test]
fn an_unknown_user_costs_one_hash_and_does_not_get_in_by_it() {
    let users = users(&format!("b:{BCRYPT}\nc:{BCRYPT}\n"));
    assert_eq!(computed(&users, "b"), (BCRYPT.to_owned(), true));
    for unknown in ["", "x", "B", "b "] {
        assert_eq!(computed(&users, unknown), (BCRYPT.to_owned(), false), "{unknown:?}");
    }
}

/// Otherwise a user whose hash is of a rare kind would show by it.
#[test]
fn each_kind_of_hash_is_computed_for_as_many_unknown_users_as_known_ones() {
    let rare = argon2(Params::new(64, 1, 1, None).unwrap());
    let text = format!("a:{rare}\nb:{BCRYPT}\nc:{BCRYPT}\nd:{BCRYPT}\n");
    let (first, again) = (users(&text), users(&text));
    let more = users(&format!("{text}e:{BCRYPT}\n"));
    let (mut like_a, mut moved) = (0, 0);
    for number in 0..4000 {
        let unknown = format!("x{number}");
        let hash = computed(&first, &unknown).0;
        assert_eq!(computed(&again, &unknown).0, hash, "{unknown}: the file was read again");
        like_a += usize::from(hash == rare);
        moved += usize::from(computed(&more, &unknown).0 != hash);
    }
    assert!((800..1200).contains(&like_a), "one in four: {like_a}");
    assert!((100..300).contains(&moved), "from one in four to one in five: {moved}");
}

/// bcrypt ignores what is beyond 72 bytes, so two passwords would be one.
#[test]
fn a_password_longer_than_bcrypt_takes_is_wrong() {
    let long = "x".repeat(72);
    let hash = bcrypt::hash_with_salt(&long, 4, [7; 16]).unwrap();
    let users = users(&format!("u:{}\n", hash.format_for_version(bcrypt::Version::TwoY)));
    assert!(is_in(&users, "u", &long));
    assert!(!is_in(&users, "u", &format!("{long}x")));
    assert!(!is_in(&users, "u", &long[1..]));
}

#[test]
fn each_bad_line_is_reported_with_its_number_and_reason() {
    let good = format!("good:{BCRYPT}\n");
    let line_2 = |text: &str| faults(format!("{good}{text}\n"));
    assert_eq!(faults(""), [(1, LineFault::NoUsers)]);
    assert_eq!(faults("# empty\n\n"), [(1, LineFault::NoUsers)]);
    assert_eq!(line_2("user"), [(2, LineFault::NoColon)]);
    assert_eq!(line_2("user:"), [(2, LineFault::NoHash)]);
    assert_eq!(line_2(&format!(":{BCRYPT}")), [(2, LineFault::NoUser)]);
    assert_eq!(line_2(&format!("a b:{BCRYPT}")), [(2, LineFault::InvalidUser)]);
    assert_eq!(line_2(&format!("a\0b:{BCRYPT}")), [(2, LineFault::InvalidUser)]);
    assert_eq!(line_2("user:hunter2"), [(2, LineFault::Plain)]);
    assert_eq!(line_2("user:{SHA}87v6s3eHqd2RLCJcj3rX9yLAHmo="), [(2, LineFault::Weak("SHA-1"))]);
    assert_eq!(line_2("user:$apr1$hR3lF0Mv$yiHFOcmEoSZ0TdpG5xJKR/"), [(2, LineFault::Weak("MD5"))]);
    assert_eq!(line_2("user:$6$x$y"), [(2, LineFault::Weak("SHA-crypt"))]);
    assert_eq!(line_2("user:rl0uE0OTLKZ0c"), [(2, LineFault::Plain)], "crypt");
    let cost = |cost: &str| BCRYPT.replacen("04", cost, 1);
    assert_eq!(line_2(&format!("u:{}", cost("31"))), [(2, LineFault::Cost { cost: 31 })]);
    assert_eq!(line_2(&format!("u:{}", cost("15"))), [(2, LineFault::Cost { cost: 15 })]);
    assert_eq!(line_2(&format!("u:{}", cost("03"))), [(2, LineFault::Bcrypt)]);
    assert_eq!(line_2(&format!("u:{}", cost("-1"))), [(2, LineFault::Bcrypt)]);
    assert_eq!(line_2(&format!("good:{BCRYPT}")), [(2, LineFault::Duplicate { first: 1 })]);
    assert_eq!(line_2(&format!("u:{BCRYPT}x")), [(2, LineFault::Bcrypt)]);
    assert_eq!(line_2(&format!("u:{}", BCRYPT.replacen("2y", "2x", 1))), [(2, LineFault::Bcrypt)]);
    assert_eq!(faults(b"good:x\xff\xfe"), [(1, LineFault::NotText)]);
    for bad in
        ["$argon2id$", "$argon2id$v=19$m=64,t=1,p=1$c2FsdA", "$argon2x$v=19$m=64,t=1,p=1$c$c"]
    {
        assert_eq!(line_2(&format!("u:{bad}")), [(2, LineFault::Argon2)], "{bad}");
    }
}

/// A hash may be cut by a full disk, or made to break its parser (RUSTSEC-2026-0199).
#[test]
fn a_hash_that_is_cut_or_not_ascii_is_refused_without_a_panic() {
    for len in 0..BCRYPT.len() {
        faults(format!("u:{}\n", &BCRYPT[..len]));
    }
    let wide = format!("$2y$04${}", "ä".repeat(26));
    assert_eq!(wide.len(), 59);
    for hash in [wide.clone(), format!("{wide}x"), format!("$2y$0ä${}", "a".repeat(52))] {
        assert_eq!(faults(format!("u:{hash}")), [(1, LineFault::Bcrypt)], "{hash}");
    }
    let argon2 = argon2(Params::new(64, 1, 1, None).unwrap());
    for len in 0..argon2.len() {
        // A shorter output may be a hash all the same, but not of this password.
        if let Ok(users) = UserTable::parse(format!("u:{}\n", &argon2[..len]).as_bytes()) {
            assert!(!is_in(&users, "u", "hunter2"), "{len}");
        }
    }
}

/// One login must not be able to occupy the machine.
#[test]
fn a_hash_that_takes_too_long_to_verify_is_refused() {
    let phc =
        |params: &str| format!("u:$argon2id$v=19${params}$c2FsdHNhbHRzYWx0${}", "A".repeat(43));
    assert!(UserTable::parse(phc("m=131072,t=16,p=16").as_bytes()).is_ok());
    for params in ["m=131073,t=1,p=1", "m=64,t=17,p=1", "m=4194304,t=1,p=1", "m=1024,t=1,p=17"] {
        assert_eq!(faults(phc(params)), [(1, LineFault::Argon2Cost)], "{params}");
    }
}

#[test]
fn cheap_hashes_are_counted_and_a_long_list_of_bad_lines_is_cut() {
    let dear = BCRYPT.replacen("04", "10", 1);
    let found = users(&format!("a:{dear}\nb:{BCRYPT}\nc:{BCRYPT}\n"));
    assert_eq!(found.cheap(), Some(CheapHashes { count: 2, line: 2 }));
    assert_eq!(users(&format!("a:{dear}\n")).cheap(), None);
    assert_eq!(faults("x\n".repeat(1_000_000)).len(), BAD_LINES_MAX);
}
