//! What malls are told, as they may read it and have it sent again. Never sends: workers do.

use super::{Checkout, CheckoutError};
use crate::domain::id::MerchantId;
use crate::server::store::{Endpoint, StoredEvent, Try};

impl Checkout {
    /// What a merchant was told, oldest first; see [`Store::events`](crate::server::store::Store::events).
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn events(
        &self,
        merchant: MerchantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, CheckoutError> {
        Ok(self.inner.store.events(merchant, after, limit).await?)
    }

    /// An event of this merchant, with the last tries to tell it, oldest first.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn event(
        &self,
        merchant: &MerchantId,
        event_id: &str,
    ) -> Result<Option<(StoredEvent, Vec<Try>)>, CheckoutError> {
        let found = self.inner.store.event(event_id.to_owned()).await?;
        let Some(event) = found.filter(|event| event.merchant == *merchant) else { return Ok(None) };
        let tries = self.inner.store.deliveries(event_id.to_owned()).await?;
        Ok(Some((event, tries)))
    }

    /// How the merchant's mall fails now, if it does.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn endpoint(&self, merchant: MerchantId) -> Result<Option<Endpoint>, CheckoutError> {
        Ok(self.inner.store.endpoint(merchant).await?)
    }

    /// Has an event told again, also one that was delivered. `false`: the merchant has no such event.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn resend(&self, merchant: MerchantId, event_id: String) -> Result<bool, CheckoutError> {
        let found = self.inner.store.resend(merchant, event_id, self.now()).await?;
        self.inner.work.notify_one();
        Ok(found)
    }
}
