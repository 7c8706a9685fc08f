//! The recorded scripts, played with the whole service.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::comparable;
use super::script::{Attempt, Stage, settle};
use crate::error::{Error, ErrorKind};
use crate::serve::Stopping;
use crate::service::{ClientService, ClientState};

/// What happened, in order.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<Value>>>);

impl Trace {
    fn push(&self, event: Value) {
        self.0.lock().unwrap().push(event);
    }

    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// What a test does to the connection that is being made ready or used.
struct Handles {
    /// Tells how preparing ends.
    prepared: Option<oneshot::Sender<bool>>,
    lost: Option<oneshot::Sender<()>>,
}

/// The connection as the program has it.
struct Held {
    number: u64,
    trace: Trace,
    /// Whether its end is no news.
    over: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.over {
            self.trace.push(json!(["close", self.number]));
        }
    }
}

/// Tells that preparing was given up, unless it has come to an end.
struct Preparing(Option<(u64, Trace)>);

impl Drop for Preparing {
    fn drop(&mut self) {
        if let Some((number, trace)) = self.0.take() {
            trace.push(json!(["prepare_cancelled", number]));
        }
    }
}

struct Play {
    stage: Stage,
    attempt: Option<Attempt>,
    attempts: Arc<Mutex<u64>>,
    service: ClientService<u64>,
    handles: Arc<Mutex<Handles>>,
    trace: Trace,
    waiting: u64,
    stopping: u64,
}

impl Play {
    fn new(case: &Value) -> Self {
        let stage = Stage::new();
        let trace = Trace::default();
        let attempts = Arc::new(Mutex::new(0));
        let handles = Arc::new(Mutex::new(Handles { prepared: None, lost: None }));
        let delays: Option<Vec<f64>> = case["delays"]
            .as_array()
            .map(|delays| delays.iter().map(|delay| delay.as_f64().unwrap()).collect());
        let policy = move |failures: u64| {
            Duration::from_secs_f64(match &delays {
                None => failures as f64,
                Some(delays) => delays[(failures as usize - 1).min(delays.len() - 1)],
            })
        };
        let told = trace.clone();
        let observe = move |state: &ClientState| {
            if let ClientState::Waiting { failures, delay, .. } = state {
                told.push(json!(["retry_in", delay.as_secs_f64(), failures]));
            }
        };
        let prepare = {
            let (trace, attempts, handles) = (trace.clone(), Arc::clone(&attempts), Arc::clone(&handles));
            let mode = case["prepare"].as_str().map(str::to_owned);
            move |connection: crate::Connection, stopping: Stopping| {
                let (trace, handles, mode) = (trace.clone(), Arc::clone(&handles), mode.clone());
                let number = *attempts.lock().unwrap();
                async move {
                    let mut held = Held { number, trace: trace.clone(), over: false };
                    let (prepared, mut lost) = new_handles(&handles);
                    if let Some(mode) = mode.as_deref() {
                        trace.push(json!(["prepare", number]));
                        prepare(mode, &trace, &mut held, prepared, &mut lost).await?;
                    }
                    let run = run(connection, held, stopping, lost);
                    Ok::<_, Error>((number, run))
                }
            }
        };
        let service = ClientService::builder(stage.endpoint.clone())
            .retry_policy(policy)
            .on_state(observe)
            .prepare_timeout(Duration::MAX)
            .close_timeout(Duration::MAX)
            .prepare(prepare);
        Self { stage, attempt: None, attempts, service, handles, trace, waiting: 0, stopping: 0 }
    }

    async fn step(&mut self, op: &Value) -> Vec<Value> {
        match op[0].as_str().unwrap() {
            "start" => self.service.start().unwrap(),
            "stop" => {
                self.stopping += 1;
                let (service, trace, number) = (self.service.clone(), self.trace.clone(), self.stopping);
                tokio::spawn(async move {
                    service.stop().await.unwrap();
                    trace.push(json!(["stopped", number]));
                });
            }
            "when" => self.when(op[1].as_i64()),
            "ok" => drop(self.attempt.take().expect("an attempt").succeed()),
            "fail" => self.attempt.take().expect("an attempt").fail(),
            "lost" => {
                if let Some(lost) = self.handles.lock().unwrap().lost.take() {
                    // One that is closed already is lost already.
                    let _ = lost.send(());
                }
            }
            "advance" => tokio::time::advance(Duration::from_secs_f64(op[1].as_f64().unwrap())).await,
            "prepare_ok" => self.prepared(true),
            "prepare_fail" => self.prepared(false),
            other => panic!("{other}"),
        }
        settle().await;
        if self.attempt.as_ref().is_some_and(Attempt::is_cancelled) {
            self.attempt = None;
            self.trace.push(json!(["attempt_cancelled", *self.attempts.lock().unwrap()]));
        }
        if let Some(attempt) = self.stage.attempted() {
            assert!(self.attempt.replace(attempt).is_none(), "two attempts at a time");
            let mut attempts = self.attempts.lock().unwrap();
            *attempts += 1;
            self.trace.push(json!(["attempt", *attempts]));
        }
        self.trace.take()
    }

    fn when(&mut self, patience: Option<i64>) {
        self.waiting += 1;
        let (service, trace, number) = (self.service.clone(), self.trace.clone(), self.waiting);
        tokio::spawn(async move {
            let connected = match patience {
                None => service.when_connected().await,
                Some(attempts) => service.when_connected_within(attempts.max(0) as u64).await,
            };
            trace.push(match connected {
                Ok(connection) => json!(["when_ok", number, connection]),
                Err(error) => {
                    let reason = match error.kind() {
                        ErrorKind::Cancelled => "cancelled",
                        ErrorKind::ConnectionRefused => "refused",
                        ErrorKind::HandshakeFailed => "rejected",
                        other => panic!("{other}"),
                    };
                    json!(["when_failed", number, reason])
                }
            });
        });
    }

    fn prepared(&self, good: bool) {
        let prepared = self.handles.lock().unwrap().prepared.take();
        prepared.expect("a connection that is being prepared").send(good).unwrap();
    }
}

fn new_handles(handles: &Mutex<Handles>) -> (oneshot::Receiver<bool>, oneshot::Receiver<()>) {
    let (prepared, is_prepared) = oneshot::channel();
    let (lost, is_lost) = oneshot::channel();
    *handles.lock().unwrap() = Handles { prepared: Some(prepared), lost: Some(lost) };
    (is_prepared, is_lost)
}

async fn prepare(
    mode: &str,
    trace: &Trace,
    held: &mut Held,
    prepared: oneshot::Receiver<bool>,
    lost: &mut oneshot::Receiver<()>,
) -> Result<(), Error> {
    let mut preparing = Preparing(Some((held.number, trace.clone())));
    let good = match mode {
        "ok" => true,
        "raise" => false,
        _ => tokio::select! {
            good = prepared => good.unwrap(),
            _ = lost => {
                held.over = true;
                return Err(Error::new(ErrorKind::ConnectionReset, "lost while it was prepared"));
            }
        },
    };
    preparing.0 = None;
    if good { Ok(()) } else { Err(Error::new(ErrorKind::HandshakeFailed, "not as it should be")) }
}

/// Uses a connection until it is lost, also when it is to be closed.
async fn run(connection: crate::Connection, mut held: Held, stopping: Stopping, lost: oneshot::Receiver<()>) {
    let lost = async { drop(lost.await) };
    let closing = async {
        stopping.wait().await;
        held.trace.push(json!(["close", held.number]));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = lost => {}
        () = closing => {}
    }
    held.over = true;
    drop(connection);
}

/// Whether a connection is closed while it is prepared: the real one is gone at once, and does not wait for the script to
/// say so.
fn closes_while_preparing(trace: &Value) -> bool {
    let has = |step: &Value, what: &str| step.as_array().unwrap().iter().any(|event| event[0] == what);
    trace.as_array().unwrap().iter().any(|step| has(step, "prepare_cancelled") && has(step, "close"))
}

#[tokio::test(start_paused = true)]
async fn it_does_what_twisteds_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/client_service.jsonl");
    let (mut played, mut left_out) = (0, 0);
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let wanted = case["want"].get("trace").unwrap_or(&case["trace"]);
        // No time passes by itself, but none need pass.
        let needs_no_time = case["delays"] == json!([0]);
        if closes_while_preparing(wanted) || needs_no_time {
            left_out += 1;
            continue;
        }
        let mut play = Play::new(&case);
        for (op, wanted) in case["ops"].as_array().unwrap().iter().zip(wanted.as_array().unwrap()) {
            let got = play.step(op).await;
            let wanted = wanted.as_array().unwrap();
            assert_eq!(comparable(&got), comparable(wanted), "{} at {op}", case["id"]);
        }
        played += 1;
    }
    assert_eq!((played, left_out), (311, 3));
}
