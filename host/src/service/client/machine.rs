//! What a client service does next: a state machine without I/O and without time.
//!
//! What happens is told by calling its methods; what is to be done then is added to a list of [`Action`]s. Attempts are
//! numbered from 1, and a connection has the number of the attempt that made it.

/// Something to be done.
///
/// `W` is whom to tell about a connection, `S` whom to tell that it has stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action<W, S> {
    /// Begin this attempt to connect.
    Attempt(u64),
    /// Give the attempt up.
    CancelAttempt(u64),
    /// Prepare the connection.
    Prepare(u64),
    /// Give preparing it up.
    CancelPreparing(u64),
    /// The connection is up: tell those who wait for one.
    Up(u64, Vec<W>),
    /// Close the connection, and say when it is [lost](Machine::lost).
    Close(u64),
    /// Wait as the policy says after so many failures in a row, then call [`Machine::retry`].
    Wait(u64),
    /// Tell that there will be no connection.
    GiveUp(Vec<W>, Reason),
    /// Tell that it has stopped.
    Stopped(Vec<S>),
}

/// Why there will be no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// As many attempts have failed as were to be waited for; the last one just now.
    Failed,
    /// The service was stopped.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never started.
    New,
    Stopped,
    Connecting,
    Preparing,
    Up,
    /// For the next attempt.
    Waiting,
    Closing {
        /// Whether it was started again meanwhile.
        restart: bool,
    },
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Machine<W, S> {
    state: State,
    /// The last one that was begun.
    attempt: u64,
    /// In a row.
    failures: u64,
    waiting: Vec<Waiting<W>>,
    /// How many may wait before those who are gone are looked for.
    crowd: usize,
    stopping: Vec<S>,
    pub(super) actions: Vec<Action<W, S>>,
}

#[derive(Debug)]
struct Waiting<W> {
    whom: W,
    /// Failures that are left until it gives up.
    patience: Option<u64>,
}

/// The least number of those who wait that is worth a look at whether they still do.
const CROWD: usize = 64;

impl<W, S> Machine<W, S> {
    pub(super) fn new() -> Self {
        Self {
            state: State::New,
            attempt: 0,
            failures: 0,
            waiting: Vec::new(),
            crowd: CROWD,
            stopping: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// The number of the last attempt.
    pub(super) fn attempt(&self) -> u64 {
        self.attempt
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    pub(super) fn start(&mut self) {
        match self.state {
            State::New | State::Stopped => self.begin(),
            State::Closing { .. } => self.state = State::Closing { restart: true },
            State::Connecting | State::Preparing | State::Up | State::Waiting => {}
        }
    }

    pub(super) fn stop(&mut self, whom: S) {
        self.stopping.push(whom);
        match self.state {
            State::New | State::Stopped | State::Waiting => self.stopped(),
            State::Connecting => {
                self.actions.push(Action::CancelAttempt(self.attempt));
                self.stopped();
            }
            State::Preparing => {
                self.actions.push(Action::CancelPreparing(self.attempt));
                self.close();
            }
            State::Up => self.close(),
            State::Closing { .. } => self.state = State::Closing { restart: false },
        }
    }

    /// Somebody waits for a connection, until so many attempts have failed from now on. Those who are gone are forgotten now
    /// and then.
    pub(super) fn when_up(&mut self, whom: W, patience: Option<u64>, is_gone: impl Fn(&W) -> bool) {
        if self.waiting.len() >= self.crowd {
            self.waiting.retain(|waiting| !is_gone(&waiting.whom));
            self.crowd = CROWD.max(2 * self.waiting.len());
        }
        match self.state {
            State::Up => self.actions.push(Action::Up(self.attempt, vec![whom])),
            State::Stopped => self.actions.push(Action::GiveUp(vec![whom], Reason::Stopped)),
            _ => self.waiting.push(Waiting { whom, patience }),
        }
    }

    /// The attempt has led to a connection.
    pub(super) fn connected(&mut self) {
        debug_assert_eq!(self.state, State::Connecting);
        self.state = State::Preparing;
        self.actions.push(Action::Prepare(self.attempt));
    }

    /// The attempt has failed.
    pub(super) fn failed(&mut self) {
        debug_assert_eq!(self.state, State::Connecting);
        self.wait();
    }

    /// The connection is ready for use.
    pub(super) fn prepared(&mut self) {
        debug_assert_eq!(self.state, State::Preparing);
        self.state = State::Up;
        let whom = self.waiting.drain(..).map(|waiting| waiting.whom).collect();
        self.actions.push(Action::Up(self.attempt, whom));
    }

    /// The connection is of no use.
    pub(super) fn rejected(&mut self) {
        debug_assert_eq!(self.state, State::Preparing);
        self.actions.push(Action::Close(self.attempt));
        self.wait();
    }

    /// The connection has been up for long enough to count as a success.
    pub(super) fn steady(&mut self) {
        self.failures = 0;
    }

    /// The connection with that number has ended, for whatever reason.
    pub(super) fn lost(&mut self, number: u64) {
        if number != self.attempt {
            return;
        }
        match self.state {
            State::Up => self.wait(),
            State::Preparing => {
                self.actions.push(Action::CancelPreparing(number));
                self.wait();
            }
            State::Closing { restart: false } => self.stopped(),
            State::Closing { restart: true } => {
                self.begin();
                self.tell_stopped();
            }
            State::New | State::Stopped | State::Connecting | State::Waiting => {}
        }
    }

    /// The time is over that was to be waited.
    pub(super) fn retry(&mut self) {
        if self.state == State::Waiting {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.state = State::Connecting;
        self.attempt += 1;
        self.actions.push(Action::Attempt(self.attempt));
    }

    /// After a failure.
    fn wait(&mut self) {
        self.state = State::Waiting;
        self.failures += 1;
        self.actions.push(Action::Wait(self.failures));
        for waiting in &mut self.waiting {
            waiting.patience = waiting.patience.map(|patience| patience.saturating_sub(1));
        }
        let tired = self.waiting.extract_if(.., |waiting| waiting.patience == Some(0));
        let tired: Vec<W> = tired.map(|waiting| waiting.whom).collect();
        if !tired.is_empty() {
            self.actions.push(Action::GiveUp(tired, Reason::Failed));
        }
    }

    fn close(&mut self) {
        self.state = State::Closing { restart: false };
        self.actions.push(Action::Close(self.attempt));
    }

    fn stopped(&mut self) {
        self.state = State::Stopped;
        let waiting: Vec<W> = self.waiting.drain(..).map(|waiting| waiting.whom).collect();
        if !waiting.is_empty() {
            self.actions.push(Action::GiveUp(waiting, Reason::Stopped));
        }
        self.tell_stopped();
    }

    fn tell_stopped(&mut self) {
        let stopping = std::mem::take(&mut self.stopping);
        self.actions.push(Action::Stopped(stopping));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::comparable;
    use super::*;

    /// Runs the scripts, with a clock that is a number.
    struct Play {
        machine: Machine<u64, u64>,
        now: f64,
        retry_at: Option<f64>,
        prepare: Option<String>,
        delays: Option<Vec<f64>>,
        /// Of the step that goes on.
        trace: Vec<Value>,
        waiting: u64,
        stopping: u64,
        /// The newest connection, while it is open.
        open: Option<u64>,
    }

    impl Play {
        fn new(case: &Value) -> Self {
            let delays = case["delays"].as_array();
            Self {
                machine: Machine::new(),
                now: 0.0,
                retry_at: None,
                prepare: case["prepare"].as_str().map(str::to_owned),
                delays: delays.map(|delays| delays.iter().map(|delay| delay.as_f64().unwrap()).collect()),
                trace: Vec::new(),
                waiting: 0,
                stopping: 0,
                open: None,
            }
        }

        fn delay(&self, failures: u64) -> f64 {
            match &self.delays {
                None => failures as f64,
                Some(delays) => delays[(failures as usize - 1).min(delays.len() - 1)],
            }
        }

        fn step(&mut self, op: &Value) -> Vec<Value> {
            let rejecting = matches!(op[0].as_str(), Some("prepare_fail" | "ok"));
            match op[0].as_str().unwrap() {
                "start" => self.machine.start(),
                "stop" => {
                    self.stopping += 1;
                    self.machine.stop(self.stopping);
                }
                "when" => {
                    self.waiting += 1;
                    let patience = op[1].as_i64().map(|failures| failures.max(1) as u64);
                    self.machine.when_up(self.waiting, patience, |_| false);
                }
                "ok" => {
                    self.open = Some(self.machine.attempt);
                    self.machine.connected();
                }
                "fail" => self.machine.failed(),
                "lost" => {
                    if let Some(open) = self.open.take() {
                        self.machine.lost(open);
                    }
                }
                "advance" => {
                    self.now += op[1].as_f64().unwrap();
                    if self.retry_at.is_some_and(|at| at <= self.now + 1e-9) {
                        self.retry_at = None;
                        self.machine.retry();
                    }
                }
                "prepare_ok" => self.prepared(),
                "prepare_fail" => self.machine.rejected(),
                other => panic!("{other}"),
            }
            self.act(rejecting);
            std::mem::take(&mut self.trace)
        }

        fn prepared(&mut self) {
            self.machine.prepared();
            self.machine.steady();
        }

        fn act(&mut self, rejecting: bool) {
            loop {
                let actions = std::mem::take(&mut self.machine.actions);
                if actions.is_empty() {
                    return;
                }
                for action in actions {
                    self.do_it(action, rejecting);
                }
            }
        }

        fn do_it(&mut self, action: Action<u64, u64>, rejecting: bool) {
            match action {
                Action::Attempt(number) => {
                    self.retry_at = None;
                    self.trace.push(json!(["attempt", number]));
                }
                Action::CancelAttempt(number) => self.trace.push(json!(["attempt_cancelled", number])),
                Action::Prepare(number) => match self.prepare.as_deref() {
                    None => self.prepared(),
                    Some("ok") => {
                        self.trace.push(json!(["prepare", number]));
                        self.prepared();
                    }
                    Some("raise") => {
                        self.trace.push(json!(["prepare", number]));
                        self.machine.rejected();
                    }
                    Some(_) => self.trace.push(json!(["prepare", number])),
                },
                Action::CancelPreparing(number) => self.trace.push(json!(["prepare_cancelled", number])),
                Action::Up(number, whom) => {
                    self.trace.extend(whom.iter().map(|whom| json!(["when_ok", whom, number])));
                }
                Action::Close(number) => self.trace.push(json!(["close", number])),
                Action::Wait(failures) => {
                    let delay = self.delay(failures);
                    self.retry_at = Some(self.now + delay);
                    self.trace.push(json!(["retry_in", delay, failures]));
                }
                Action::GiveUp(whom, reason) => {
                    let reason = match reason {
                        Reason::Stopped => "cancelled",
                        Reason::Failed if rejecting => "rejected",
                        Reason::Failed => "refused",
                    };
                    self.trace.extend(whom.iter().map(|whom| json!(["when_failed", whom, reason])));
                }
                Action::Stopped(whom) => {
                    self.retry_at = None;
                    self.trace.extend(whom.iter().map(|whom| json!(["stopped", whom])));
                }
            }
        }
    }

    /// An attempt is cancelled before those who wait hear of it, and they hear before those who stop.
    fn assert_order(id: &Value, step: &[Value]) {
        let rank = |event: &Value| match event[0].as_str().unwrap() {
            "attempt_cancelled" => Some(0),
            "when_ok" | "when_failed" => Some(1),
            "stopped" => Some(2),
            _ => None,
        };
        let ranks: Vec<i32> = step.iter().filter_map(rank).collect();
        assert!(ranks.is_sorted(), "{id}: {step:?}");
    }

    #[test]
    fn those_who_no_longer_wait_are_forgotten() {
        let mut machine: Machine<u32, ()> = Machine::new();
        for number in 0..10_000 {
            // Every hundredth goes on waiting.
            machine.when_up(number, None, |number| number % 100 != 0);
            assert!(machine.waiting.len() <= CROWD.max(2 * (number as usize / 100 + 1)) + 1);
        }
        machine.start();
        machine.connected();
        machine.prepared();
        let Some(Action::Up(1, whom)) = machine.actions.pop() else { panic!() };
        assert_eq!(whom.iter().filter(|number| *number % 100 == 0).count(), 100);
    }

    #[test]
    fn it_does_what_twisteds_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/client_service.jsonl");
        let (mut cases, mut steps, mut better) = (0, 0, 0);
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let wanted = case["want"].get("trace").unwrap_or(&case["trace"]);
            better += usize::from(case.get("want").is_some());
            let mut play = Play::new(&case);
            for (op, wanted) in case["ops"].as_array().unwrap().iter().zip(wanted.as_array().unwrap()) {
                let got = play.step(op);
                let wanted = wanted.as_array().unwrap();
                assert_eq!(comparable(&got), comparable(wanted), "{} at {op}", case["id"]);
                assert_order(&case["id"], &got);
                steps += 1;
            }
            cases += 1;
        }
        assert_eq!((cases, steps, better), (314, 2750, 9));
    }
}
