//! Who may be told at the same time: so many webhooks a mall, so many in all, and other tasks beside them.
//! A mall that fails has fewer places with each failure, down to one, and doubles them with each success:
//! dead malls hold next to nothing, and one place is sure for every mall whatever the others hold. Never
//! asks the store; what is in flight here is all it knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::id::MerchantId;
use crate::server::merchants::Merchants;
use crate::server::store::{Mall, Places, Task, TaskKind};

/// Webhooks of one mall in flight, while it takes them.
const EACH: u32 = 16;
/// Of a mall of which nothing is known.
const FIRST: u32 = 4;
/// Webhooks of all malls in flight, beside the sure ones.
const WEBHOOKS: u32 = 512;
/// Other tasks under way.
const OTHERS: u32 = 96;

/// The places of this process.
#[derive(Default)]
pub struct Lanes(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    malls: HashMap<MerchantId, Lane>,
    webhooks: u32,
    others: u32,
}

#[derive(Clone, Copy)]
struct Lane {
    in_flight: u32,
    limit: u32,
}

const UNKNOWN: Lane = Lane { in_flight: 0, limit: FIRST };

/// A task's place, free again when this is dropped. A task that ends without a word, in a panic, counts
/// as a failure.
pub struct Place {
    lanes: Arc<Lanes>,
    mall: Option<MerchantId>,
    well: bool,
}

impl Lanes {
    /// What may be claimed now. Malls without an address are told nothing; those with the fewest webhooks in
    /// flight are served first.
    pub fn free(&self, merchants: &Merchants) -> Places {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut malls: Vec<(u32, Mall)> = merchants
            .iter()
            .filter_map(|member| {
                let url = member.config.webhook_url.as_ref()?.to_string();
                let merchant = member.config.id.clone();
                let Lane { in_flight, limit } = taken.malls.get(&merchant).copied().unwrap_or(UNKNOWN);
                let places = limit.saturating_sub(in_flight);
                Some((in_flight, Mall { merchant, url, places, sure: u32::from(in_flight == 0) }))
            })
            .collect();
        malls.sort_by_key(|(in_flight, _)| *in_flight);
        Places {
            malls: malls.into_iter().map(|(_, mall)| mall).collect(),
            webhooks: WEBHOOKS.saturating_sub(taken.webhooks),
            others: OTHERS.saturating_sub(taken.others),
        }
    }

    /// The place of a task that was claimed.
    pub fn take(self: &Arc<Self>, task: &Task) -> Place {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mall = (task.kind == TaskKind::Webhook).then(|| task.merchant.clone());
        match &mall {
            Some(mall) => {
                taken.webhooks += 1;
                taken.malls.entry(mall.clone()).or_insert(UNKNOWN).in_flight += 1;
            }
            None => taken.others += 1,
        }
        Place { lanes: self.clone(), mall, well: false }
    }
}

impl Place {
    /// Frees the place, and says whether the other side did its part.
    pub fn leave(mut self, well: bool) {
        self.well = well;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.lanes.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mall) = &self.mall else {
            taken.others = taken.others.saturating_sub(1);
            return;
        };
        taken.webhooks = taken.webhooks.saturating_sub(1);
        let Some(lane) = taken.malls.get_mut(mall) else { return };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.limit = if self.well { (lane.limit * 2).min(EACH) } else { (lane.limit / 2).max(1) };
        if lane.in_flight == 0 && lane.limit >= FIRST {
            taken.malls.remove(mall);
        }
    }
}
