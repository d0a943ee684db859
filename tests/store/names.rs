//! Names with every odd character: of files, of folders and in links.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use flowrun::store::Traffic;

use crate::fixture::Place;
use crate::on_every_store;

on_every_store!(odd_names_come_back_as_they_were,);

/// What trips quoting, URLs, XML, JSON, shells, terminals and other file systems; the longest name that Linux has.
fn odd_names() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = [
        "a b",
        " leading",
        "trailing ",
        "trailing.",
        "...",
        ".hidden",
        "-rf",
        "--help",
        "'tick'",
        "\"quote\"",
        "back\\slash",
        "`tick`",
        "$HOME",
        "~",
        "*",
        "?",
        "[a-z]",
        "{a,b}",
        "a|b",
        "a;b",
        "a&b",
        "a&amp;b",
        "<tag>",
        "]]>",
        "%",
        "%2F",
        "%2e%2e",
        "%00",
        "+",
        "a+b",
        "?query=1",
        "#part",
        "a=b",
        "a,b",
        "a:b",
        "@host",
        "http:",
        "C:",
        "con",
        "nul",
        "new\nline",
        "return\r",
        "tab\t",
        "bell\u{7}",
        "escape\u{1b}[31m",
        "delete\u{7f}",
        "one\u{1}",
        "no-break\u{a0}space",
        "zero\u{200b}width",
        "turned\u{202e}round",
        "order\u{feff}mark",
        "line\u{2028}end",
        // The same letter in one and in two parts: two files.
        "caf\u{e9}",
        "cafe\u{301}",
        "\u{1f600}",
        "\u{10ffff}",
        "\u{4e2d}\u{6587}",
        "\u{5d0}\u{5d1}",
        "UPPER",
        "upper",
        "blob",
        "tree",
        "record",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    names.insert("n".repeat(255));
    names.insert("\u{e9}".repeat(127));
    names
}

pub(crate) async fn odd_names_come_back_as_they_were(place: &Place) {
    let names = odd_names();
    for (number, name) in names.iter().enumerate() {
        place.write(&format!("out/files/{name}"), name.as_bytes());
        place.write(&format!("out/folders/{name}/{name}"), number.to_string().as_bytes());
        fs_err::create_dir_all(place.path(&format!("out/empty/{name}"))).unwrap();
        fs_err::create_dir_all(place.path("out/links")).unwrap();
        symlink(format!("../files/{name}"), place.path(&format!("out/links/{name}"))).unwrap();
    }
    let artifact = place.take(&place.path("out")).await;
    for (folder, store) in [("here", place.again()), ("elsewhere", place.tricks.elsewhere())] {
        let back = place.path(folder);
        store.place(&artifact, &back, false, &Traffic::default()).await.unwrap();
        for kind in ["files", "folders", "empty", "links"] {
            let found: BTreeSet<String> = fs_err::read_dir(back.join(kind))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            assert_eq!(found, names);
        }
        for (number, name) in names.iter().enumerate() {
            // Through the link, which must say what it said.
            assert_eq!(fs_err::read(back.join("links").join(name)).unwrap(), name.as_bytes());
            let inner = back.join("folders").join(name).join(name);
            assert_eq!(fs_err::read_to_string(inner).unwrap(), number.to_string());
        }
    }
}
