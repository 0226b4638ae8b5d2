//! Pads: the tablets in the shop. Which order one shows is stored; its followers are told after that. Changes
//! no order and asks no gateway.

use core::pin::pin;
use core::time::Duration;
use std::sync::Arc;

use tokio::time::timeout;

use super::{Checkout, CheckoutError};
use crate::domain::id::{Channel, MerchantId, PadId};
use crate::domain::order::Order;
use crate::domain::pad::{PAIRING_MS, Pad, PairingCode};
use crate::runtime::random::{self, NoRandomness};
use crate::server::capability::hash;
use crate::server::pads::Follower;
use crate::server::store::{FindPad, NewPad, OnPad, PadChange};

/// How often is looked whether a tablet told something that is not written down.
const KEEP_EACH: Duration = Duration::from_secs(1);

impl From<NoRandomness> for CheckoutError {
    fn from(error: NoRandomness) -> Self {
        Self::Internal(error.to_string())
    }
}

impl Checkout {
    /// The merchant's page for tablets.
    pub fn pad_url(&self, merchant: &MerchantId) -> String {
        format!("{}/pad/{merchant}", self.inner.public_base_url)
    }

    /// Makes a pad that waits for a tablet, and the code that pairs one with it.
    ///
    /// # Errors
    /// [`CheckoutError::TooManyPads`].
    pub async fn create_pad(&self, merchant: &MerchantId) -> Result<(Pad, PairingCode), CheckoutError> {
        let name = random::base62(22)?;
        let id = PadId::new(name).map_err(|error| CheckoutError::Internal(error.to_string()))?;
        let code = PairingCode::of(random::bytes()?);
        let now = self.now();
        let new = NewPad {
            id,
            merchant: merchant.clone(),
            code_hash: self.inner.capabilities.seal(merchant, code.as_str()),
            code_until: now.plus(PAIRING_MS),
        };
        let pad = self.inner.store.create_pad(new, now).await?.ok_or(CheckoutError::TooManyPads)?;
        Ok((pad, code))
    }

    /// Pairs the pad that waits for the code with whoever keeps the answer: the secret of its cookie, always
    /// a new one. `None`: no pad waits for it, or no longer.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn pair_pad(
        &self,
        merchant: &MerchantId,
        code: &PairingCode,
    ) -> Result<Option<String>, CheckoutError> {
        let secret = random::base62(22)?;
        let code = self.inner.capabilities.seal(merchant, code.as_str());
        let store = &self.inner.store;
        let paired = store.pair_pad(merchant.clone(), code, hash(&secret), self.now()).await?;
        Ok(paired.map(|pad| {
            tracing::info!(%merchant, pad = %pad.id, "a tablet was paired");
            secret
        }))
    }

    /// A merchant's pads, and what each shows now.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn pads(&self, merchant: &MerchantId) -> Result<Vec<OnPad>, CheckoutError> {
        let now = self.now();
        let pads = self.inner.store.pads(merchant.clone()).await?;
        let shown = |OnPad { pad, order }: OnPad| {
            let pad = self.inner.pads.noted(pad);
            let order = order.filter(|order| pad.shows(order, now));
            OnPad { pad, order }
        };
        Ok(pads.into_iter().map(shown).collect())
    }

    /// The merchant's pad whose cookie this is.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn pad_by_cookie(
        &self,
        merchant: &MerchantId,
        secret: &str,
    ) -> Result<Option<Pad>, CheckoutError> {
        let pad = self.inner.store.pad(merchant.clone(), FindPad::Cookie(hash(secret))).await?;
        Ok(pad.map(|pad| self.inner.pads.noted(pad)))
    }

    /// Shows an order of the merchant on its pad.
    ///
    /// # Errors
    /// [`CheckoutError::NoSuchPad`]; [`CheckoutError::AlreadyPaid`] and [`CheckoutError::AlreadyClosed`] if
    /// there is nothing to pay.
    pub async fn show_on_pad(&self, pad: &PadId, order: &Arc<Order>) -> Result<Pad, CheckoutError> {
        let merchant = &order.key.merchant;
        let known = self.inner.store.pad(merchant.clone(), FindPad::Id(pad.clone())).await?;
        known.ok_or(CheckoutError::NoSuchPad)?;
        self.payable(order)?;
        self.change_pad(merchant, pad, PadChange::Show(order.id), None).await
    }

    /// Takes the order off the pad; with `seen` only if the pad is still in that version. The order itself
    /// stays as it is.
    ///
    /// # Errors
    /// [`CheckoutError::NoSuchPad`].
    pub async fn clear_pad(
        &self,
        merchant: &MerchantId,
        pad: &PadId,
        seen: Option<i64>,
    ) -> Result<Pad, CheckoutError> {
        self.change_pad(merchant, pad, PadChange::Clear, seen).await
    }

    /// Another way to pay the order that a pad shows, if it is still in that version.
    ///
    /// # Errors
    /// [`CheckoutError::NoSuchPad`].
    pub async fn choose_on_pad(
        &self,
        pad: &Pad,
        channel: Channel,
        seen: Option<i64>,
    ) -> Result<Pad, CheckoutError> {
        self.change_pad(&pad.merchant, &pad.id, PadChange::Choose(channel), seen).await
    }

    /// Removes a pad; its tablet is paired with nothing any more.
    ///
    /// # Errors
    /// [`CheckoutError::NoSuchPad`].
    pub async fn remove_pad(&self, merchant: &MerchantId, pad: &PadId) -> Result<(), CheckoutError> {
        let removed = self.inner.store.remove_pad(merchant.clone(), pad.clone()).await?;
        self.inner.pads.forget(pad);
        self.inner.pads.changed(pad);
        if removed { Ok(()) } else { Err(CheckoutError::NoSuchPad) }
    }

    /// Follows what a pad shows.
    pub fn follow_pad(&self, pad: &PadId) -> Follower {
        self.inner.pads.follow(pad)
    }

    /// The pad was heard of. With `result`, it begins to show the end of its order. Only noted: who asks for
    /// a page writes nothing.
    pub fn pad_seen(&self, pad: &Pad, result: bool) {
        self.inner.pads.note(pad, result, self.now());
    }

    /// Writes down what was noted of pads, each second until `stop`, and once more then. What a crash takes
    /// with it is a second of it: an end that was just shown is shown once more.
    pub async fn keep_pads(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            let stopped = timeout(KEEP_EACH, &mut stop).await.is_ok();
            if let Err(error) = self.write_pads_down().await {
                tracing::warn!(%error, "what is known of the pads is not written down");
            }
            if stopped {
                return;
            }
        }
    }

    /// Writes down what was noted of pads.
    ///
    /// # Errors
    /// [`CheckoutError::Store`]: it stays noted.
    pub async fn write_pads_down(&self) -> Result<(), CheckoutError> {
        for line in self.inner.pads.unkept() {
            self.inner.store.pad_seen(line.pad.clone(), line.result, line.at).await?;
            self.inner.pads.kept(&line);
        }
        Ok(())
    }

    /// The orders that were on a pad last, newest first.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn pad_orders(&self, pad: &Pad, limit: u32) -> Result<Vec<Order>, CheckoutError> {
        Ok(self.inner.store.pad_orders(pad.id.clone(), limit).await?)
    }

    async fn change_pad(
        &self,
        merchant: &MerchantId,
        pad: &PadId,
        change: PadChange,
        seen: Option<i64>,
    ) -> Result<Pad, CheckoutError> {
        let changed = self.inner.store.change_pad(merchant.clone(), pad.clone(), change, seen).await?;
        self.inner.pads.changed(pad);
        changed.map(|pad| self.inner.pads.noted(pad)).ok_or(CheckoutError::NoSuchPad)
    }
}
