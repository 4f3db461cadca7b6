//! `portolan kafka-configure` against a Kafka that demands certificates and allows nothing by
//! itself: what the named principals may do afterwards, and what nobody may.

mod configure;
mod rights;
mod services;
mod support;
