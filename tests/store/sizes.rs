//! Many files, and large ones.

use std::io::{BufWriter, Write};

use flowrun::digest::Digest;
use flowrun::store::hash::hash_file;
use flowrun::store::{EntryKind, Lookup};
use fs_err::File;

use crate::fixture::{Place, is_full, record};
use crate::on_every_store;

on_every_store!(many_files, a_large_file, large_files_beside_small_ones,);

async fn many_files(place: &Place) {
    let count = if is_full() { 100_000 } else { 10_000 };
    for number in 0..count {
        let folder = place.path(&format!("many/{}", number % 100));
        if number < 100 {
            fs_err::create_dir_all(&folder).unwrap();
        }
        fs_err::write(folder.join(number.to_string()), number.to_string()).unwrap();
    }
    let artifact = place.take(&place.path("many")).await;
    assert_eq!(place.store.entries(&artifact).await.unwrap().len(), count + 100);
    let written = record("many", Some(artifact));
    place.store.put_record(written.clone(), false).await.unwrap();
    let found = place.tricks.elsewhere().look_up(&written.key).await.unwrap();
    assert!(matches!(found, Lookup::Hit(_)));
    for back in
        [place.place(&artifact, "back", false).await, place.fetch(&artifact, "fetched").await]
    {
        let files = walkdir::WalkDir::new(&back).into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        let mut seen = 0;
        for file in files {
            let text = fs_err::read_to_string(file.path()).unwrap();
            assert_eq!(file.file_name().to_str(), Some(text.as_str()));
            seen += 1;
        }
        assert_eq!(seen, count);
    }
}

/// Writes a file that does not repeat itself, so that parts in a wrong order are found out.
fn write_large(place: &Place, name: &str, size: u64) -> Digest {
    let path = place.write(name, b"");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
    let mut left = size;
    let mut word = size;
    while left > 0 {
        // Knuth's generator of 64 bits (MMIX).
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bytes = word.to_be_bytes();
        let most = usize::try_from(left.min(8)).unwrap();
        file.write_all(&bytes[..most]).unwrap();
        left -= most as u64;
    }
    file.flush().unwrap();
    hash_file(&File::open(&path).unwrap(), size).unwrap()
}

async fn a_large_file(place: &Place) {
    let size = if is_full() { 5 << 30 } else { (64 << 20) + 12_345 };
    let digest = write_large(place, "large", size);
    let artifact = place.take(&place.path("large")).await;
    let entries = place.store.entries(&artifact).await.unwrap();
    assert_eq!(entries[0].kind, EntryKind::File { digest, size, exec: false });
    place.store.sync().await.unwrap();
    for (name, back) in [
        ("here", place.place(&artifact, "back", true).await),
        ("fetched", place.fetch(&artifact, "fetched").await),
    ] {
        assert_eq!(fs_err::metadata(&back).unwrap().len(), size);
        let file = File::open(&back).unwrap();
        assert_eq!(hash_file(&file, size).unwrap(), digest, "{name}");
    }
}

pub(crate) async fn large_files_beside_small_ones(place: &Place) {
    let sizes = [0, 1, 4095, 4096, 65_535, 65_536, 65_537, 1 << 20, (5 << 20) - 1, 5 << 20];
    let sizes = sizes.into_iter().chain([(8 << 20) - 1, 8 << 20, (8 << 20) + 1, (16 << 20) + 3]);
    let written: Vec<(u64, Digest)> =
        sizes.map(|size| (size, write_large(place, &format!("out/{size}"), size))).collect();
    let artifact = place.take(&place.path("out")).await;
    let back = place.fetch(&artifact, "fetched").await;
    for (size, digest) in written {
        let file = File::open(back.join(size.to_string())).unwrap();
        assert_eq!(hash_file(&file, size).unwrap(), digest, "{size} bytes");
    }
}
