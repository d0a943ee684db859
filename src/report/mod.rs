//! What people and machines see of a run: live terminal (indicatif), plain lines, JSON. Knows only events and rows.
