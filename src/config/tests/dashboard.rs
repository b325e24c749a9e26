//! `[dashboard]`: the page, and who may look at it.

use super::*;

/// For `hunter2`.
const USERS: &str = "ann:$2y$10$wcRF40MjxTFqAi6MjcfzNuHcm1.PXHp4UF2fSXXE8wEelYhx0i2LO\n";

fn page(keys: &str) -> Case {
    Case::of(format!("[dashboard]\n{keys}")).file("users", USERS)
}

/// The page names what is pulled, and its password is everybody's on a network without encryption.
#[test]
fn beyond_this_machine_the_page_takes_users_and_a_word_about_encryption() {
    for listen in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
        let open = page(&format!("listen = '{listen}'")).problems().remove(0).to_string();
        assert!(open.contains("open to everybody"), "{open}");
        let keys = format!("listen = '{listen}'\nhtpasswd = 'users'");
        let clear = page(&keys).problems().remove(0).to_string();
        assert!(clear.contains("without encryption"), "{clear}");
        let settings = page(&format!("{keys}\ninsecure_basic = true")).settings();
        assert!(settings.dashboard.access.options.htpasswd.unwrap().contains("ann"));
    }
    let local = page("listen = '[::1]:1'\nnames = ['larder.corp']").settings().dashboard;
    assert!(local.access.options.htpasswd.is_none());
    assert_eq!(local.names, ["larder.corp".parse().unwrap()]);
    assert_eq!(page("listen = ''").settings().dashboard.address, None);
}

#[test]
fn the_page_has_an_address_of_its_own() {
    refused(&[
        (
            "listen = '127.0.0.1:7'\n[dashboard]\nlisten = '127.0.0.1:7'",
            3,
            "dashboard.listen",
            "own",
        ),
        ("admin_listen = '[::1]:7'\n[dashboard]\nlisten = '[::1]:7'", 3, "dashboard.listen", "own"),
        ("[dashboard]\nhtpasswd = 'none'", 2, "dashboard.htpasswd", "there is no such file"),
        ("[dashboard]\nlistn = ''", 2, "dashboard.listn", "did you mean `listen`?"),
    ]);
}
