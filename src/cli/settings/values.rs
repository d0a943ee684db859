//! The values of settings, read from their text. An error says what is wanted, to follow `give `.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::RuntimeChoice;
use crate::cli::screen::ColourChoice;

pub(super) fn from_one(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|&number| number > 0).ok_or("a whole number from 1")
}

pub(super) fn whole<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "a whole number")
}

pub(super) fn processors(text: &str) -> Result<f64, &'static str> {
    crate::spec::parse_cpu(text).ok_or("a number above 0, like `2`, `0.5` or `500m`")
}

pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    crate::spec::parse_size(text).ok_or("a size like `512Mi`, `4Gi` or `500M`")
}

pub(super) fn time(text: &str) -> Result<Duration, &'static str> {
    crate::spec::parse_duration(text).ok_or("a time like `30s`, `10m` or `2h`")
}

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "an IP address and a port, like `127.0.0.1:8080` or `[::1]:8080`")
}

pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let ends = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse().ok()?, last.trim().parse::<u16>().ok()?))
    });
    match ends {
        Some((first, last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err("a range of ports, like `21000-28999`"),
    }
}

pub(super) fn runtime(text: &str) -> Result<RuntimeChoice, &'static str> {
    match text {
        "local" => Ok(RuntimeChoice::Local),
        "docker" => Ok(RuntimeChoice::Docker),
        "auto" => Ok(RuntimeChoice::Auto),
        _ => Err("`local`, `docker`, `kubernetes` or `auto`"),
    }
}

pub(super) fn access(text: &str) -> Result<bool, &'static str> {
    match text {
        "read-only" => Ok(true),
        "read-write" => Ok(false),
        _ => Err("`read-write` or `read-only`"),
    }
}

pub(super) fn colour(text: &str) -> Result<ColourChoice, &'static str> {
    match text {
        "auto" => Ok(ColourChoice::Auto),
        "always" => Ok(ColourChoice::Always),
        "never" => Ok(ColourChoice::Never),
        _ => Err("`auto`, `always` or `never`"),
    }
}

pub(super) fn names(text: &str) -> Result<Vec<String>, &'static str> {
    let names: Vec<String> =
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.iter().any(|name| name.contains(['=', ' ', '\0'])) {
        return Err("names of variables, separated by commas");
    }
    Ok(names)
}
