//! `flowrun store ls|get|check`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::args::{StoreArgs, StoreCommand};
use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::holders;
use super::place::{Place, open_store};
use super::progress;
use super::screen::{Screen, push_line};
use super::settings::Settings;
use crate::digest::Digest;
use crate::names::suggest;
use crate::store::{Entry, EntryKind, RecordLine, Traffic};
use crate::words::{age, bytes, count, visible};

/// Looks into the store.
pub(crate) async fn store(
    args: StoreArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    match args.command {
        StoreCommand::Ls { all: true, output, .. } => {
            list_records(&Place::open(settings).await?, output.json(), screen).await
        }
        StoreCommand::Ls { what, run, holders: held, output, .. } => {
            let place = Place::open(settings).await?;
            let what = what.unwrap_or_else(|| "latest".to_owned());
            if held {
                let digits = match what.strip_prefix("b3:") {
                    Some(digits) => are_digits(digits)?.to_owned(),
                    None => artifact(&place, &run, &what).await?.1.hex(),
                };
                return holders::list(&place, &digits, output.json(), screen).await;
            }
            if what.starts_with("b3:") || what.contains('.') {
                let (_, digest) = artifact(&place, &run, &what).await?;
                list_files(&place, &digest, output.json(), screen).await
            } else {
                list_run(&place, &what, output.json(), screen).await
            }
        }
        StoreCommand::Get { artifact: what, to, run, output } => {
            let place = Place::open(settings).await?;
            let (name, digest) = artifact(&place, &run, &what).await?;
            get(&place, settings, &name, &digest, to, output.json(), screen).await
        }
        StoreCommand::Check { output } => check(settings, output.json(), screen).await,
    }
}

/// An output or a digest → its name and digest.
async fn artifact(place: &Place, run: &str, what: &str) -> Result<(String, Digest), CliError> {
    if let Some(digits) = what.strip_prefix("b3:") {
        let digest = by_digits(place, digits).await?;
        return Ok((digest.short(), digest));
    }
    // The values of a matrix may hold dots, so the output's name stands behind the last one.
    let Some((task, output)) = what.rsplit_once('.') else {
        return Err(CliError::usage(
            format!("`{what}` is neither an output nor a digest"),
            "write `stage.output`, or `b3:…`",
        ));
    };
    let run = find::run(&place.state, run).await?;
    let tasks = place.state.tasks(run.id).await?;
    // Of a stage with `pick` the stage's name means the winner, as it does in the file.
    let winner = tasks.iter().filter(|row| row.task.stage.as_str() == task);
    let winner = match winner.count() {
        0 | 1 => None,
        _ => find::winners(&place.state, run.id).await?.into_iter().find_map(|(stage, copy)| {
            tasks.iter().find(|row| {
                row.task.stage == stage && row.task.copy == copy && stage.as_str() == task
            })
        }),
    };
    let task = match winner {
        Some(row) => row,
        None => find::task(&tasks, task)?.1,
    };
    if let Some(digest) = task.outputs.get(output) {
        return Ok((output.to_owned(), *digest));
    }
    let help = match suggest(output, task.outputs.keys().map(crate::names::OutputName::as_str)) {
        Some(near) => format!("did you mean `{}.{near}`?", task.label),
        None => format!("see `flowrun store ls {}`", run.id),
    };
    Err(CliError::usage(
        format!("task `{}` of run {} has no output `{output}`", task.label, run.id),
        help,
    ))
}

const FROM: &str = "copy it from `flowrun store ls`";

/// Refuses what is no beginning of a digest.
fn are_digits(digits: &str) -> Result<&str, CliError> {
    if digits.is_empty() || !digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) {
        return Err(CliError::usage(format!("`b3:{digits}` is no digest"), FROM));
    }
    Ok(digits)
}

/// The artifact whose digest begins so.
async fn by_digits(place: &Place, digits: &str) -> Result<Digest, CliError> {
    let (from, digits) = (FROM, are_digits(digits)?);
    match place.store.find_artifacts(digits, 2).await?.as_slice() {
        [] => Err(CliError::usage(format!("the store has no artifact `b3:{digits}`"), from)),
        [one] => Ok(*one),
        _ => Err(CliError::usage(
            format!("several artifacts begin with `b3:{digits}`"),
            "give more of its digits",
        )),
    }
}

async fn list_run(
    place: &Place,
    run: &str,
    as_json: bool,
    screen: Screen,
) -> Result<Exit, CliError> {
    let run = find::run(&place.state, run).await?;
    let now = clock::now();
    let mut objects = Vec::new();
    let mut lines = Vec::new();
    for task in place.state.tasks(run.id).await? {
        for (output, digest) in &task.outputs {
            let (files, size) = measure(&place.store.entries(digest).await?);
            let when = task.ended_at.map(|at| age(now, at)).unwrap_or_default();
            lines.push(format!(
                "{digest}  {:>10}  {:>9}  {when:>10}  {}.{output}",
                bytes(size),
                count(files, "file"),
                task.label
            ));
            objects.push(json!({
                "task": task.label,
                "output": output,
                "digest": digest,
                "files": files,
                "bytes": size,
                "at": task.ended_at,
            }));
        }
    }
    if as_json {
        screen.json(&json!({"run": run.id, "artifacts": objects}))?;
    } else {
        screen.data(&lines.join("\n"))?;
    }
    Ok(Exit::Done)
}

/// Every result that can be reused, and how much lies in the store.
async fn list_records(place: &Place, as_json: bool, screen: Screen) -> Result<Exit, CliError> {
    let records = place.store.records().await?;
    let sum = place.store.summary().await?;
    if as_json {
        let one = |line: &RecordLine| {
            let record = &line.record;
            json!({
                "key": record.key,
                "made_at": record.made_at,
                "made_by": record.made_by,
                "made_on": record.made_on,
                "outputs": record.outputs,
                "bytes": line.bytes,
                "metrics": record.metrics,
            })
        };
        screen.json(&json!({
            "records": records.iter().map(one).collect::<Vec<_>>(),
            "artifacts": sum.artifacts,
            "files": sum.files,
            "bytes": sum.bytes,
            "quarantined": sum.quarantined,
        }))?;
        return Ok(Exit::Done);
    }
    let now = clock::now();
    let mut text = String::new();
    for RecordLine { record, bytes: sizes } in &records {
        let outputs: Vec<String> = sizes
            .iter()
            .map(|(name, size)| format!("{name} {}", size.map_or("(gone)".to_owned(), bytes)))
            .collect();
        let (key, made) = (record.key.short(), age(now, record.made_at));
        let on = record.made_on.as_deref().map(|on| format!(" by {}", visible(on)));
        let by = format!("run {}{}", record.made_by, on.unwrap_or_default());
        let line = format!("{key}  {made:>10}  {by}  {}", outputs.join(", "));
        push_line(&mut text, line.trim_end());
    }
    let number =
        |number: u64, noun: &str| count(usize::try_from(number).unwrap_or(usize::MAX), noun);
    push_line(
        &mut text,
        &format!(
            "{}, {} of {} ({})",
            number(sum.records, "result"),
            number(sum.artifacts, "artifact"),
            number(sum.files, "file"),
            bytes(sum.bytes)
        ),
    );
    if sum.quarantined > 0 {
        let damaged = number(sum.quarantined, "damaged object");
        push_line(&mut text, &format!("{damaged} put aside; `flowrun gc` removes them"));
    }
    screen.data(&text)?;
    Ok(Exit::Done)
}

fn measure(entries: &[Entry]) -> (usize, u64) {
    let sizes = entries.iter().filter_map(|entry| match entry.kind {
        EntryKind::File { size, .. } => Some(size),
        EntryKind::Folder | EntryKind::Link { .. } => None,
    });
    sizes.fold((0, 0), |(files, sum), size| (files + 1, sum + size))
}

async fn list_files(
    place: &Place,
    digest: &Digest,
    as_json: bool,
    screen: Screen,
) -> Result<Exit, CliError> {
    let entries = place.store.entries(digest).await?;
    if as_json {
        screen.json(&json!({"digest": digest, "entries": entries}))?;
        return Ok(Exit::Done);
    }
    let lines: Vec<String> = entries
        .iter()
        .map(|entry| {
            let path = if entry.path.is_empty() { "(the file itself)" } else { &entry.path };
            let path = visible(path);
            match &entry.kind {
                EntryKind::File { size, exec, .. } => {
                    format!("{:>10}  {path}{}", bytes(*size), if *exec { " *" } else { "" })
                }
                EntryKind::Folder => format!("{:>10}  {path}/", ""),
                EntryKind::Link { target } => {
                    format!("{:>10}  {path} -> {}", "", visible(target))
                }
            }
        })
        .collect();
    screen.data(&lines.join("\n"))?;
    Ok(Exit::Done)
}

async fn get(
    place: &Place,
    settings: &Settings,
    name: &str,
    digest: &Digest,
    to: Option<PathBuf>,
    as_json: bool,
    screen: Screen,
) -> Result<Exit, CliError> {
    let shown = to.unwrap_or_else(|| PathBuf::from(name));
    let target = settings.caller.folder.join(&shown);
    if target.symlink_metadata().is_ok() {
        return Err(CliError::usage(
            format!("`{}` exists", shown.display()),
            "name another place; nothing is overwritten",
        ));
    }
    if let Some(parent) = target.parent() {
        fs_err::create_dir_all(parent)?;
    }
    let traffic = Traffic::default();
    let copy = place.store.export(digest, &target, &traffic);
    let far = || traffic.moved().received;
    progress::watch("received", far, copy, screen).await?;
    let (files, size) = measure(&place.store.entries(digest).await?);
    if as_json {
        let moved = traffic.moved();
        screen.json(&json!({
            "digest": digest,
            "path": target,
            "files": files,
            "bytes": size,
            "received": moved.received,
        }))?;
    } else {
        screen.say(&format!("{}, {}", count(files, "file"), bytes(size)));
        screen.data(&shown.display().to_string())?;
    }
    Ok(Exit::Done)
}

async fn check(settings: &Settings, as_json: bool, screen: Screen) -> Result<Exit, CliError> {
    // The state is not needed, so that a damaged one does not hide a whole store.
    super::home::Home::open(&settings.home)?;
    let store = open_store(settings)?;
    let read = AtomicU64::new(0);
    let count_bytes = |bytes| {
        read.fetch_add(bytes, Ordering::Relaxed);
    };
    let far = || read.load(Ordering::Relaxed);
    let report = progress::watch("read", far, store.check(&count_bytes), screen).await?;
    if as_json {
        let broken: Vec<Value> = report.broken.iter().map(|line| line.as_str().into()).collect();
        screen
            .json(&json!({"objects": report.objects, "bytes": report.bytes, "broken": broken}))?;
    } else {
        let objects = usize::try_from(report.objects).unwrap_or(usize::MAX);
        let whole = if report.broken.is_empty() { ": all are whole" } else { "" };
        let (objects, read) = (count(objects, "object"), bytes(report.bytes));
        let mut text = format!("{objects}, {read} read{whole}\n");
        for line in &report.broken {
            push_line(&mut text, &format!("broken: {}", visible(line)));
        }
        screen.data(&text)?;
    }
    Ok(if report.broken.is_empty() { Exit::Done } else { Exit::Unreachable })
}
