//! A database and a bucket behind TLS with an authority of one's own: whom it is trusted with, and what is said of whom it is not.

use crate::authority::{Authority, with_tls};
use crate::own_postgres::Postgres;
use crate::place::{Output, Place};
use crate::team::server;

const PIPELINE: &str = "version: \"2\"\nname: safe\nstages:\n  one:\n    run: echo 1 > o\n    files: []\n    outputs: {o: o}\n";

/// Exit 5, with each of these words.
fn is_refused(output: &Output, words: &[&str]) {
    assert_eq!(output.code, 5, "{}{}", output.stdout, output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
    }
}

#[test]
fn a_database_is_trusted_as_the_url_says() {
    let place = Place::with(PIPELINE);
    let authority = Authority::new(place.outside("ca"));
    let other = Authority::new(place.outside("other"));
    let (certificate, key) = authority.sign("DNS:localhost");
    let mut postgres = Postgres::made();
    let data = postgres.folder().join("data");
    for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
        fs_err::copy(from, data.join(to)).unwrap();
        postgres.give(&format!("data/{to}"));
    }
    // Nobody gets in without TLS.
    fs_err::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n").unwrap();
    postgres.set("ssl=on");
    postgres.wake();
    let port = postgres.port();
    let try_it = |host: &str, parameters: &str| {
        let url = format!("postgres://flowrun@{host}:{port}/postgres?{parameters}");
        place.run(&["status", "--state", &url])
    };
    let (right, wrong) = (authority.file(), other.file());

    is_refused(
        &try_it("localhost", "sslmode=disable"),
        &["postgres://flowrun@localhost", "no encryption"],
    );
    for good in [
        ("localhost", "sslmode=require".to_owned()),
        ("localhost", format!("sslmode=verify-full&sslrootcert={right}")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={right}")),
    ] {
        try_it(good.0, &good.1).success();
    }
    for bad in ["verify-ca", "verify-full"] {
        let output = try_it("localhost", &format!("sslmode={bad}&sslrootcert={wrong}"));
        is_refused(&output, &["postgres://flowrun@localhost", "nobody known", "`sslrootcert=…`"]);
        // The authorities of the system have not heard of it either.
        let output = try_it("localhost", &format!("sslmode={bad}"));
        is_refused(&output, &["nobody known", "`sslrootcert=…`"]);
    }
    let output = try_it("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={right}"));
    is_refused(&output, &["for another host", "correct the host"]);
    let output = try_it("localhost", "sslmode=verify-full&sslrootcert=/nowhere/ca.pem");
    is_refused(&output, &["/nowhere/ca.pem", "No such file"]);
}

#[test]
fn a_bucket_is_trusted_with_an_authority_of_ones_own() {
    let place = Place::with(PIPELINE);
    let authority = Authority::new(place.outside("ca"));
    let other = Authority::new(place.outside("other"));
    let (certificate, key) = authority.sign("DNS:localhost");
    let store = server("FLOWRUN_TEST_S3_SEAWEED");
    let (bucket, parameters) = store.split_once('?').unwrap();
    let behind = parameters.split("endpoint=http://127.0.0.1:").nth(1).unwrap();
    let tls = with_tls(behind.split('&').next().unwrap(), &certificate, &key);
    let unique = place.outside("").file_name().unwrap().to_str().unwrap().to_owned();
    let store = |host: &str| {
        format!("{bucket}/{unique}?region=us-east-1&endpoint=https://{host}:{}", tls.port)
    };
    let apply = |home: &str, host: &str, variables: &[(&str, &str)]| {
        let home = place.outside(home);
        let mut command = place.command(&["apply", "--store", &store(host)]);
        command.env_remove("SSL_CERT_FILE").env_remove("AWS_CA_BUNDLE");
        Output::of(command.env("FLOWRUN_HOME", home).envs(variables.iter().copied()))
    };
    let (right, wrong) = (authority.file(), other.file());

    let said = ["s3://", "is not trusted", "UnknownIssuer", "`AWS_CA_BUNDLE`"];
    is_refused(&apply("ann", "localhost", &[]), &said);
    is_refused(&apply("ann", "localhost", &[("AWS_CA_BUNDLE", &wrong)]), &said);
    is_refused(&apply("ann", "localhost", &[("SSL_CERT_FILE", &wrong)]), &said);
    let output = apply("ann", "localhost", &[("AWS_CA_BUNDLE", "/nowhere/ca.pem")]);
    is_refused(&output, &["`AWS_CA_BUNDLE` names `/nowhere/ca.pem`", "No such file"]);
    let output = apply("ann", "127.0.0.1", &[("AWS_CA_BUNDLE", &right)]);
    is_refused(&output, &["a certificate of another host", "as it stands in the certificate"]);

    apply("ann", "localhost", &[("AWS_CA_BUNDLE", &right)]).success();
    // Another home finds what this one stored; the bundle counts more than the system's.
    let variables = [("AWS_CA_BUNDLE", &*right), ("SSL_CERT_FILE", &wrong)];
    let output = apply("bob", "localhost", &variables).success();
    assert!(output.stderr.contains("1 reused"), "{}", output.stderr);
    let output = apply("cy", "localhost", &[("SSL_CERT_FILE", &right)]).success();
    assert!(output.stderr.contains("1 reused"), "{}", output.stderr);
}
