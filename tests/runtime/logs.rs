//! Logs: whole, apart, live, capped.

use flowrun::event::{JobEnd, Stream};
use flowrun::runtime::LogKeep;
use flowrun::runtime::log::{LogPosition, LogReader};
use flowrun::runtime::log_lines::{LogEntry, LogFollower, read_entries};

use crate::fixture::{Home, end, go, run, stdout, stream};
use crate::on_both;

on_both!(
    streams_are_apart_and_in_order_and_whole,
    a_log_is_followed_line_by_line_until_its_end,
    much_output_is_capped_and_counted,
    of_what_stays_up_the_newest_output_is_kept_and_nothing_is_lost_to_who_follows,
    a_job_that_ends_at_once_says_everything,
    a_large_log_is_whole,
);

/// Bytes of the large log; the issue asks for 1 GiB, which needs twice that on the disk.
fn large() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "how much a test writes is chosen by who runs it"
    )]
    let asked = std::env::var("FLOWRUN_TEST_LOG_BYTES").ok();
    asked.map_or(64 << 20, |bytes| bytes.parse().unwrap())
}

async fn streams_are_apart_and_in_order_and_whole(home: &Home) {
    let runtime = home.runtime();
    let many = home.sh("seq 10000; seq 10000 >&2");
    let raw = home.sh(r"printf 'caf\303\251 \342\230\203 \000\377\376 no end'; printf 'err' >&2");
    run(&*runtime, &many).await;
    run(&*runtime, &raw).await;
    let numbers: Vec<String> = (1..=10000).map(|number| number.to_string()).collect();
    let numbers = numbers.join("\n") + "\n";
    assert_eq!(stdout(&many), numbers);
    assert_eq!(stream(&many, Stream::Stderr), numbers.as_bytes());
    let entries = read_entries(&many.folder).unwrap();
    assert_eq!(entries.len(), 20000);
    assert_eq!(stream(&raw, Stream::Stdout), b"caf\xc3\xa9 \xe2\x98\x83 \x00\xff\xfe no end");
    let texts: Vec<_> = read_entries(&raw.folder).unwrap().iter().map(LogEntry::text).collect();
    assert_eq!(texts, ["café ☃ \0\u{fffd}\u{fffd} no end", "err"]);
}

async fn a_log_is_followed_line_by_line_until_its_end(home: &Home) {
    let runtime = home.runtime();
    let job =
        home.sh("echo one; until test -e go; do sleep 0.01; done; echo two >&2; printf three");
    let mut follower = LogFollower::new(&job.folder, LogPosition::default());
    runtime.start(&job).await.unwrap();
    let first = follower.next().await.unwrap().unwrap();
    assert_eq!(first[0].text(), "one");
    go(&job);
    let mut texts = Vec::new();
    while let Some(entries) = follower.next().await.unwrap() {
        texts.extend(entries.iter().map(|entry| (entry.stream(), entry.text())));
    }
    assert_eq!(texts, [(Stream::Stderr, "two".to_owned()), (Stream::Stdout, "three".to_owned())]);
    assert_eq!(end(&*runtime, &job).await.end, JobEnd::Exited(0));
}

async fn much_output_is_capped_and_counted(home: &Home) {
    let mut job = home.sh("head -c 67108864 /dev/zero; echo done >&2");
    job.log_cap = 100_000;
    assert_eq!(run(&*home.runtime(), &job).await.end, JobEnd::Exited(0));
    assert_eq!(std::fs::metadata(job.folder.join("stdout")).unwrap().len(), 100_000);
    let mut reader = LogReader::open(&job.folder, LogPosition::default());
    let mut dropped = 0;
    while let Some(chunk) = reader.next_chunk().unwrap() {
        dropped += chunk.dropped;
    }
    assert_eq!(dropped, 67_108_864 - 100_000);
    assert_eq!(stream(&job, Stream::Stderr), b"done\n");
}

async fn of_what_stays_up_the_newest_output_is_kept_and_nothing_is_lost_to_who_follows(
    home: &Home,
) {
    let runtime = home.runtime();
    let mut job = home
        .sh("seq 1 3000; until test -e go; do sleep 0.01; done; seq 3001 200000; echo done >&2");
    (job.log_cap, job.log_keep) = (400_000, LogKeep::Latest);
    let mut follower = LogFollower::new(&job.folder, LogPosition::default());
    runtime.start(&job).await.unwrap();
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < 3000 {
        seen.extend(follower.next().await.unwrap().unwrap().iter().map(LogEntry::text));
    }
    go(&job);
    assert_eq!(end(&*runtime, &job).await.end, JobEnd::Exited(0));
    let mut reader = LogReader::open(&job.folder, LogPosition::default());
    let (mut kept, mut dropped) = (Vec::new(), 0);
    while let Some(chunk) = reader.next_chunk().unwrap() {
        dropped += chunk.dropped;
        if chunk.stream == Stream::Stdout {
            kept.extend(chunk.bytes);
        }
    }
    let numbers: Vec<String> = (1..=200_000).map(|number| number.to_string()).collect();
    let all = numbers.join("\n") + "\n";
    assert!(all.ends_with(std::str::from_utf8(&kept).unwrap()), "the newest is there");
    assert_eq!(kept.len() as u64 + dropped, all.len() as u64);
    assert!((130_000..=400_000).contains(&kept.len()), "{} bytes are kept", kept.len());
    assert_eq!(stream(&job, Stream::Stderr), b"done\n");
    // A follower that fell behind is told of the gap and ends with the newest line.
    while let Some(entries) = follower.next().await.unwrap() {
        seen.extend(entries.iter().map(LogEntry::text));
    }
    assert!(seen.iter().any(|line| line.ends_with("bytes of log were not kept")));
    assert_eq!(seen[..3000].last().unwrap(), "3000");
    assert!(seen.iter().rev().take(2).any(|line| line == "200000"));
}

async fn a_job_that_ends_at_once_says_everything(home: &Home) {
    let runtime = home.runtime();
    for number in 0..10 {
        let job = home.sh(&format!("printf 'out {number}'; printf 'err {number}' >&2; exit 4"));
        assert_eq!(run(&*runtime, &job).await.end, JobEnd::Exited(4));
        assert_eq!(stdout(&job), format!("out {number}"));
        assert_eq!(stream(&job, Stream::Stderr), format!("err {number}").as_bytes());
    }
}

async fn a_large_log_is_whole(home: &Home) {
    let bytes = large();
    let job = home.sh(&format!("yes 0123456789abcde | head -c {bytes}; echo end >&2"));
    assert_eq!(run(&*home.runtime(), &job).await.end, JobEnd::Exited(0));
    let mut reader = LogReader::open(&job.folder, LogPosition::default());
    let mut seen = 0;
    while let Some(chunk) = reader.next_chunk().unwrap() {
        assert_eq!(chunk.dropped, 0);
        if chunk.stream == Stream::Stdout {
            let pattern = b"0123456789abcde\n".iter().cycle().skip((seen % 16) as usize);
            assert!(chunk.bytes.iter().eq(pattern.take(chunk.bytes.len())), "after {seen} bytes");
            seen += chunk.bytes.len() as u64;
        }
    }
    assert_eq!(seen, bytes);
    assert_eq!(stream(&job, Stream::Stderr), b"end\n");
}
