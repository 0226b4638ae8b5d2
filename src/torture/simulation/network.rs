//! The network and the clock: what becomes of calls in the air, and what time does to them. A call may be
//! lost before or after its work was done, done twice, or arrive when nobody waits for it any longer.

use http::StatusCode;

use super::run::{Ghost, Life, Run};
use super::wire::{What, trouble};
use crate::gateway::Call;
use crate::runtime::transport::SendError;

/// How long a call is waited for: the transport's own limit.
const PATIENCE_MS: i64 = 10_000;
/// How long a request that was given up may still be under way.
const GHOST_MS: i64 = 60_000;

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    Worked,
    NotSent,
    LostBefore,
    LostAfter,
    Twice,
    Later,
    Trouble,
    TroubleAfter,
}

const FAULTS: &[Fate] = &[
    Fate::NotSent,
    Fate::LostBefore,
    Fate::LostAfter,
    Fate::LostAfter,
    Fate::Twice,
    Fate::Later,
    Fate::Trouble,
    Fate::TroubleAfter,
];

impl Run<'_> {
    /// Something happens to one of the calls in the air.
    pub(super) fn call(&mut self) {
        let fate = if self.dice.percent(self.plan.faults) {
            self.dice.pick(FAULTS).unwrap_or(Fate::LostAfter)
        } else if self.dice.percent(20) {
            Fate::Worked
        } else {
            Fate::Answered
        };
        let (n, drawn) = {
            let n = self.air.outside().calls.len();
            (n, self.dice.below(n))
        };
        if n > 0 {
            self.meet(drawn, fate);
        }
    }

    /// Gives the call at `at` its fate.
    fn meet(&mut self, at: usize, fate: Fate) {
        let (refund_ms, status) = self.drawn();
        let air = self.air.clone();
        let mut outside = air.outside();
        let Some(call) = outside.calls.get_mut(at) else { return };
        let (id, what, worked) = (call.id, call.what.clone(), call.answer.is_some());
        let kind = match fate {
            Fate::Answered => "calls answered",
            Fate::Worked => "calls slow",
            Fate::NotSent => "calls not sent",
            Fate::LostBefore => "calls lost before",
            Fate::LostAfter => "calls lost after",
            Fate::Twice => "calls doubled",
            Fate::Later => "calls late",
            Fate::Trouble | Fate::TroubleAfter => "calls in trouble",
        };
        let works = match fate {
            Fate::Answered | Fate::Worked | Fate::LostAfter | Fate::TroubleAfter => u8::from(!worked),
            Fate::Twice => 2,
            Fate::NotSent | Fate::LostBefore | Fate::Later | Fate::Trouble => 0,
        };
        for _ in 0..works {
            let answer = outside.work(&what, refund_ms, status);
            if let Some(call) = outside.calls.get_mut(at) {
                call.answer = Some(answer);
            }
        }
        let lost = || Err(SendError::Unknown("lost".to_owned()));
        if !matches!(fate, Fate::Worked)
            && let Some(mut call) = outside.take(id)
        {
            let answer = call.answer.take();
            let ghost = Ghost { what: what.clone(), dies: call.sent_at.plus(GHOST_MS) };
            match fate {
                Fate::Worked => {}
                Fate::Answered | Fate::Twice => call.end(answer.map_or_else(lost, Ok)),
                // What was worked on was sent.
                Fate::NotSent if !worked => call.end(Err(SendError::NotSent("no connection".to_owned()))),
                Fate::NotSent | Fate::LostBefore | Fate::LostAfter => call.end(lost()),
                Fate::Later => {
                    call.end(lost());
                    self.ghosts.push(ghost);
                }
                Fate::Trouble | Fate::TroubleAfter => call.end(match what {
                    What::Gateway(..) => Ok(trouble()),
                    What::Webhook(_) => lost(),
                }),
            }
        }
        drop(outside);
        self.note(|_| format!("{fate:?}: {}", shown(&what)));
        self.count(kind);
    }

    /// What gateway and mall will say, if asked.
    fn drawn(&mut self) -> (i64, StatusCode) {
        let takes = self.dice.between(0, 20_000);
        let refund_ms = if self.dice.percent(20) { -takes } else { takes };
        let bad = self.dice.percent(self.plan.faults);
        let status = if bad { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        (refund_ms, status)
    }

    /// A request that was given up arrives.
    pub(super) fn ghost(&mut self) {
        let (refund_ms, status) = self.drawn();
        let now = self.now();
        self.ghosts.retain(|ghost| ghost.dies > now);
        let drawn = self.dice.below(self.ghosts.len());
        if drawn < self.ghosts.len() {
            let ghost = self.ghosts.remove(drawn);
            self.note(|_| format!("arrives late: {}", shown(&ghost.what)));
            self.count("calls arrived late");
            self.air.outside().work(&ghost.what, refund_ms, status);
        }
    }

    pub(super) fn time(&mut self) {
        let (low, high) = match self.dice.below(20) {
            0 => (600_000, 7_200_000),
            1..=2 => (60_000, 600_000),
            3..=7 => (5_000, 60_000),
            _ => (100, 5_000),
        };
        let ms = self.dice.between(low, high);
        self.note(|_| format!("{ms} ms pass"));
        self.pass(ms);
    }

    /// Time passes; calls that nobody waits for any longer have their fate.
    pub(super) fn pass(&mut self, ms: i64) {
        self.clock.advance(ms);
        let now = {
            let mut outside = self.air.outside();
            outside.now = outside.now.plus(ms);
            outside.now
        };
        loop {
            let late = |sent| now.since(sent) >= PATIENCE_MS;
            let at = self.air.outside().calls.iter().position(|call| late(call.sent_at));
            let Some(at) = at else { break };
            let fate = self.dice.pick(&[Fate::LostBefore, Fate::LostAfter, Fate::Later]);
            self.meet(at, fate.unwrap_or(Fate::LostBefore));
        }
    }

    /// The process dies: what was in the air arrives, or not, or later; nobody hears the answers.
    pub(super) fn crash(&mut self) {
        let n = self.air.outside().calls.len();
        self.note(|_| format!("crash, {n} calls in the air"));
        self.count(if n > 0 { "crashes with calls in the air" } else { "crashes" });
        for _ in 0..n {
            let fate = self.dice.pick(&[Fate::LostBefore, Fate::LostAfter, Fate::LostAfter, Fate::Later]);
            self.meet(0, fate.unwrap_or(Fate::LostBefore));
        }
        if self.dice.percent(30) {
            let ms = self.dice.between(1_000, 900_000);
            self.pass(ms);
        }
    }

    /// Everything in the air arrives. Whether there was anything.
    pub(super) fn finish_calls(&mut self) -> bool {
        let ghosts = !self.ghosts.is_empty();
        while !self.ghosts.is_empty() {
            self.ghost();
        }
        let n = self.air.outside().calls.len();
        for _ in 0..n {
            self.meet(0, Fate::Answered);
        }
        n > 0 || ghosts
    }

    /// Gateways tell what they still have to tell, if they tell anything. Whether they did.
    pub(super) fn finish_notices(&mut self, life: &mut Life) -> bool {
        let tellings = u32::try_from(self.plan.tellings).unwrap_or(1);
        if self.waiting(tellings) == 0 {
            return false;
        }
        let all = std::mem::take(&mut self.air.outside().gateways.notices);
        for due in all {
            self.count("notices");
            self.tell(life, due);
        }
        true
    }
}

/// A call in a line.
fn shown(what: &What) -> String {
    match what {
        What::Webhook(delivery) => format!("webhook {}", delivery.event_id),
        What::Gateway(channel, Call::Create { out_trade_no, .. }) => {
            format!("{channel} create {out_trade_no}")
        }
        What::Gateway(channel, call) => format!("{channel} {call:?}"),
    }
}
