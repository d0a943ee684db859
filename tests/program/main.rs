//! Tests of the real program, as a person at the terminal meets it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod aftermath;
mod authority;
mod away;
mod colleagues;
mod container_examples;
mod container_hostile;
mod container_life;
mod container_people;
mod container_restarts;
mod container_services;
mod container_shop;
mod containers;
mod examples;
mod failures;
#[path = "../faults/mod.rs"]
mod faults;
mod faulty_network;
mod hindsight;
mod homes;
mod hostile;
mod hostile_clients;
mod hostile_moments;
mod kill;
mod logins;
mod outside;
mod own_engine;
mod own_postgres;
mod patience;
mod place;
#[path = "../ports/mod.rs"]
mod ports;
mod private_inputs;
mod reuse;
mod rollouts;
mod secret_services;
mod secrets;
mod server;
mod services;
mod shared_state;
mod shared_store;
mod shop;
mod sources;
mod team;
mod tls;
mod two_machines;
mod words;
