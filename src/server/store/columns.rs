//! Columns as values: read by position, named in errors. Never guesses: what does not fit its type is an
//! error that names table, row and column.

use core::fmt::Display;
use core::str::FromStr;

use rusqlite::Row;

use super::StoreError;
use crate::domain::money::Fen;

/// What is read of a table, in the order it is selected: columns are found here by name, for asking SQLite
/// for each name of each row took longer than reading the values.
pub struct Columns {
    /// Its name.
    pub table: &'static str,
    names: &'static [&'static str],
}

/// Of `orders`.
pub const ORDERS: Columns = Columns {
    table: "orders",
    names: &[
        "id",
        "merchant_id",
        "order_type",
        "order_number",
        "title",
        "total_fee",
        "expires_at",
        "return_url",
        "buyer",
        "attach",
        "locale",
        "created_at",
        "state",
        "close_cause",
        "closed_at",
        "version",
    ],
};
/// Of `attempts`.
pub const ATTEMPTS: Columns = Columns {
    table: "attempts",
    names: &[
        "id",
        "scene",
        "payer",
        "account",
        "out_trade_no",
        "request",
        "opened_at",
        "expires_at",
        "state",
        "code",
        "refused_code",
        "order_id",
    ],
};
/// Of `payments`.
pub const PAYMENTS: Columns = Columns {
    table: "payments",
    names: &["id", "channel", "out_trade_no", "transaction_id", "kind", "fee", "paid_at", "order_id"],
};
/// Of `refunds`.
pub const REFUNDS: Columns = Columns {
    table: "refunds",
    names: &[
        "id",
        "channel",
        "out_trade_no",
        "transaction_id",
        "refund_number",
        "out_refund_no",
        "amount",
        "reason",
        "asked_at",
        "state",
        "failed_code",
        "succeeded_at",
        "order_id",
    ],
};

/// Of `pads`.
pub const PADS: Columns = Columns {
    table: "pads",
    names: &[
        "id",
        "pad",
        "merchant_id",
        "code_until",
        "paired_at",
        "order_id",
        "channel",
        "result_at",
        "seen_at",
        "version",
    ],
};

impl Columns {
    /// A `SELECT` of them.
    pub fn select(&self, condition: &str) -> String {
        format!("SELECT {} FROM {} {condition}", self.names.join(", "), self.table)
    }
}

/// Reads one column, naming table, row and column when it does not fit.
pub struct Reader<'a> {
    /// The row.
    pub row: &'a Row<'a>,
    /// What was selected.
    pub columns: &'static Columns,
}

impl Reader<'_> {
    /// The row does not fit the types.
    pub fn bad(&self, column: &str, what: impl Display) -> StoreError {
        let row = self.row.get::<_, i64>(0).map_or_else(|_| "?".to_owned(), |id| id.to_string());
        StoreError::Inconsistent { table: self.columns.table, row, what: format!("{column}: {what}") }
    }

    /// A column's value.
    pub fn get<T: rusqlite::types::FromSql>(&self, column: &str) -> Result<T, StoreError> {
        let index = self.columns.names.iter().position(|name| *name == column);
        let index = index.ok_or_else(|| self.bad(column, "is not selected"))?;
        self.row.get(index).map_err(|error| self.bad(column, error))
    }

    /// A column's text, parsed.
    pub fn text<T, E: Display>(
        &self,
        column: &str,
        parse: impl FnOnce(String) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        parse(self.get::<String>(column)?).map_err(|error| self.bad(column, error))
    }

    /// A column's word, of a closed vocabulary.
    pub fn word<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, StoreError> {
        self.text(column, |text| text.parse())
    }

    /// A column's amount.
    pub fn fen(&self, column: &str) -> Result<Fen, StoreError> {
        Fen::new(self.get(column)?).map_err(|error| self.bad(column, error))
    }
}
