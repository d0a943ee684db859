use proptest::prelude::*;

use super::*;
use crate::secret::SecretText;

fn masks(forms: &[&str]) -> Masks {
    let forms: Vec<_> = forms.iter().map(|form| form.as_bytes().to_vec()).collect();
    Masks::of_forms(&forms).unwrap()
}

fn secret(value: &str) -> HandedSecret {
    let value = SecretText::new(value.to_owned());
    HandedSecret { variable: "TOKEN".to_owned(), value, file: false }
}

/// What is given out after each of these chunks, and at the end.
fn given(masks: &Masks, chunks: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
    let mut masker = masks.masker().unwrap();
    let mut given = Vec::new();
    for chunk in chunks {
        let (mut shown, mut raw) = (Vec::new(), 0);
        masker.push(chunk, &mut |bytes, of| {
            shown.extend_from_slice(bytes);
            raw += of;
        });
        given.push((shown, raw));
    }
    let (mut shown, mut raw) = (Vec::new(), 0);
    masker.flush(&mut |bytes, of| {
        shown.extend_from_slice(bytes);
        raw += of;
    });
    assert_eq!(masker.held(), 0);
    given.push((shown, raw));
    given
}

fn whole(masks: &Masks, text: &[u8]) -> Vec<u8> {
    given(masks, &[text]).into_iter().flat_map(|(bytes, _)| bytes).collect()
}

/// The same, by looking for every form at every place.
fn plainly(forms: &[Vec<u8>], text: &[u8]) -> Vec<u8> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for start in 0..text.len() {
        for form in forms.iter().filter(|form| text[start..].starts_with(form)) {
            let end = start + form.len();
            match runs.last_mut() {
                Some(last) if start < last.end => last.end = last.end.max(end),
                _ => runs.push(start..end),
            }
        }
    }
    let (mut shown, mut at) = (Vec::new(), 0);
    for run in runs {
        shown.extend_from_slice(&text[at..run.start]);
        shown.extend_from_slice(MASK.as_bytes());
        at = run.end;
    }
    shown.extend_from_slice(&text[at..]);
    shown
}

#[test]
fn only_what_may_be_a_secret_is_held_back() {
    let masks = masks(&["hunter22"]);
    let chunks: [&[u8]; 5] = [b"Continue? [y/n] ", b"hunt", b"er2", b"2", b"hun"];
    let given: Vec<_> = given(&masks, &chunks);
    let texts: Vec<_> =
        given.iter().map(|(bytes, _)| std::str::from_utf8(bytes).unwrap()).collect();
    assert_eq!(texts, ["Continue? [y/n] ", "", "", "***", "", "hun"]);
    assert_eq!(given.iter().map(|(_, raw)| *raw).collect::<Vec<_>>(), [16, 0, 0, 8, 0, 3]);
    // A beginning that is none any more is given out with what decides it.
    assert_eq!(super::tests::given(&masks, &[b"hunth", b"a"])[0].0, b"hunt");
}

#[test]
fn finds_that_overlap_are_one_and_finds_that_touch_are_two() {
    let masks = masks(&["abcdef", "defxyz", "SECRETS", "bcde"]);
    assert_eq!(whole(&masks, b"_abcdefxyz_"), b"_***_");
    assert_eq!(whole(&masks, b"SECRETSECRETS!"), b"***!");
    assert_eq!(whole(&masks, b"abcdefabcdef"), b"******");
    assert_eq!(whole(&masks, b"abcde"), b"a***");
}

#[test]
fn a_run_without_end_needs_no_memory() {
    let masks = masks(&["aaaa"]);
    let mut masker = masks.masker().unwrap();
    let chunk = vec![b'a'; 100_000];
    for round in 1..=100 {
        masker.push(&chunk, &mut |bytes, _| panic!("given out too early: {}", bytes.len()));
        assert_eq!(masker.held(), round * 100_000);
        assert!(masker.held.len() <= 4 && masker.runs.len() == 1);
    }
    let mut all = Vec::new();
    masker.push(b"b", &mut |bytes, raw| all.push((bytes.to_vec(), raw)));
    assert_eq!(all, [(b"***b".to_vec(), 10_000_001)]);
}

#[test]
fn pieces_are_never_longer_than_a_chunk() {
    let long = "0123456789abcdef".repeat(10_000);
    let masks = masks(&[long.as_str(), "swordfish"]);
    let text =
        [&long.as_bytes()[..150_000], b"swordfish".as_slice(), &vec![b'.'; 200_000]].concat();
    for text in [text, b"swordfish".repeat(100_000)] {
        let mut masker = masks.masker().unwrap();
        let (mut shown, mut raw) = (0, 0);
        let mut look = |bytes: &[u8], of: u64| {
            assert!(bytes.len() <= CHUNK && of >= bytes.len() as u64);
            shown += bytes.len();
            raw += of;
        };
        masker.push(&text, &mut look);
        masker.flush(&mut look);
        assert_eq!(raw, text.len() as u64);
        assert_eq!(shown, plainly(&[long.clone().into(), "swordfish".into()], &text).len());
    }
}

#[test]
fn nothing_to_mask_is_no_masker() {
    assert!(Masks::of(&[]).unwrap().masker().is_none());
    assert!(Masks::of(&[secret("abc")]).unwrap().is_empty(), "too short");
    let masks = Masks::of(&[secret("hunter22")]).unwrap();
    assert!(masks.find_in("a hunter22!") && !masks.find_in("a hunter2!"));
    assert_eq!(format!("{masks:?}"), "masks");
}

#[test]
fn what_programs_make_of_a_secret_is_masked() {
    let value = "-----BEGIN KEY-----\nMIIEvQIBADANBg+/kqhkiG9w\nyz\"k\\äé\n-----END KEY-----\n";
    let masks = Masks::of(&[secret(value)]).unwrap();
    for (text, shown) in [
        (format!("key: {value}."), "key: ***\n.".to_owned()),
        ("> MIIEvQIBADANBg+/kqhkiG9w <".to_owned(), "> *** <".to_owned()),
        (serde_json::json!({"key": value.trim_end()}).to_string(), r#"{"key":"***"}"#.to_owned()),
    ] {
        assert_eq!(String::from_utf8(whole(&masks, text.as_bytes())).unwrap(), shown);
    }
}

proptest! {
    /// Whatever is written, in whatever chunks: the same comes out, it is right, nothing of a secret is left, and what
    /// is given out can be continued by another masker at any of its ends.
    #[test]
    fn chunks_change_nothing(
        forms in prop::collection::btree_set("[ab]{4,7}|[abc]{4,12}|a{4}", 1..5),
        parts in prop::collection::vec(prop_oneof![
            3 => "[abc]{0,9}".prop_map(String::into_bytes),
            1 => any::<prop::sample::Index>().prop_map(|index| vec![u8::try_from(index.index(200)).unwrap()]),
        ], 0..12),
        repeated in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let forms: Vec<Vec<u8>> = forms.into_iter().map(String::into_bytes).collect();
        let masks = Masks::of_forms(&forms).unwrap();
        let mut text = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            text.extend_from_slice(part);
            if let Some(index) = repeated.get(place) {
                text.extend_from_slice(&forms[index.index(forms.len())]);
            }
        }
        let expected = plainly(&forms, &text);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let longest = forms.iter().map(Vec::len).max().unwrap();
        let mut masker = masks.masker().unwrap();
        let mut shown = Vec::new();
        let mut ends = vec![(0, 0)];
        let mut raw = 0;
        for cut in cuts.windows(2) {
            masker.push(&text[cut[0]..cut[1]], &mut |bytes, of| {
                shown.extend_from_slice(bytes);
                raw += of;
                ends.push((shown.len(), usize::try_from(raw).unwrap()));
            });
            prop_assert_eq!(raw + masker.held(), cut[1] as u64);
            prop_assert!(masker.held.len() <= longest);
        }
        masker.flush(&mut |bytes, of| {
            shown.extend_from_slice(bytes);
            raw += of;
        });
        prop_assert_eq!(raw, text.len() as u64);
        prop_assert_eq!(&shown, &expected);
        prop_assert!(!forms.iter().any(|form| shown.windows(form.len()).any(|part| part == form)));
        for (at, raw) in ends {
            prop_assert_eq!(whole(&masks, &text[raw..]), &expected[at..], "after {} bytes", raw);
        }
    }

    /// The real spellings of a real value, in any text and any chunks.
    #[test]
    fn no_spelling_survives(
        value in "[ -~]{4,40}|[a-z]{4,9}(\n[ -~]{0,20}){1,4}|\\PC{4,20}",
        before in "[ -~]{0,6}",
        after in "[ -~]{0,6}",
        size in 1_usize..50,
    ) {
        let masks = Masks::of(&[secret(&value)]).unwrap();
        let forms: Vec<_> = secret_forms::forms(&value).into_iter().collect();
        // The mask itself may only be part of a value that has asterisks.
        prop_assume!(!value.contains('*') && !after.contains('*') && !before.contains('*'));
        let mut text = before.into_bytes();
        for form in &forms {
            text.extend_from_slice(form);
            text.extend_from_slice(after.as_bytes());
        }
        let chunks: Vec<_> = text.chunks(size).collect();
        let shown: Vec<u8> = given(&masks, &chunks).into_iter().flat_map(|(bytes, _)| bytes).collect();
        for form in &forms {
            prop_assert!(!shown.windows(form.len()).any(|part| part == form));
        }
        prop_assert_eq!(shown, plainly(&forms, &text));
    }
}
