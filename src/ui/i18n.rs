//! Every word of the pages, once, in each language. Never holds a word of a gateway or of a mall.
//! Written for shoppers: what happened, whether money moved, what to do next.

use crate::domain::id::word_enum;

word_enum!(
    /// The languages of the pages.
    Locale {
        /// Chinese, simplified.
        Zh = "zh-CN",
        /// English.
        En = "en",
    }
);

/// One line a text: name, Chinese, English. `{}` is filled in by `fill`.
macro_rules! catalogue {
    ($(#[$doc:meta])* $Text:ident { $($name:ident: $zh:literal, $en:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Text { $(#[doc = $en] $name),+ }

        impl $Text {
            /// Every text.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The text in a language.
            pub const fn in_locale(self, locale: Locale) -> &'static str {
                match (locale, self) {
                    $((Locale::Zh, Self::$name) => $zh, (Locale::En, Self::$name) => $en,)+
                }
            }
        }
    };
}

catalogue! {
    /// What the island says: the browser downloads these.
    Text {
        Copied: "已复制", "Copied";
        Wechat: "微信支付", "WeChat Pay";
        Alipay: "支付宝", "Alipay";
        ScanWx: "请使用微信扫一扫付款", "Scan with WeChat to pay";
        ScanAli: "请使用支付宝扫一扫付款", "Scan with Alipay to pay";
        AltWx: "微信支付二维码，金额 {} 元", "WeChat Pay QR code, {} yuan";
        AltAli: "支付宝二维码，金额 {} 元", "Alipay QR code, {} yuan";
        ScanAny: "请使用微信或支付宝扫一扫付款", "Scan with WeChat or Alipay to pay";
        AltAny: "付款二维码，微信和支付宝都可扫，金额 {} 元", "QR code for WeChat or Alipay, {} yuan";
        HereWx: "将打开微信完成付款", "Pay in WeChat";
        HereAli: "将前往支付宝完成付款", "Pay in Alipay";
        PayNow: "立即支付", "Pay now";
        Elsewhere: "请在浏览器中打开", "Open this page in your browser";
        LeaveWechat: "微信内无法使用支付宝：点击右上角“…”，选择“在浏览器打开”",
            "Alipay does not work inside WeChat: tap … at the top right and choose “Open in browser”";
        LeaveAlipay: "支付宝内无法使用微信支付：请在系统浏览器中打开本页",
            "WeChat Pay does not work inside Alipay: open this page in your browser";
        Fetching: "正在准备支付", "Preparing the payment";
        WechatUnavailable: "微信支付暂时不可用", "WeChat Pay is unavailable at the moment";
        AlipayUnavailable: "支付宝暂时不可用", "Alipay is unavailable at the moment";
        UnavailableMeans: "没有发生扣款。请稍后重试，或换一种方式支付",
            "No money was taken. Try again in a moment, or pay another way";
        RefusedMeans: "没有发生扣款。请换一种方式支付，或联系商家", "No money was taken. Pay another way, or contact the merchant";
        SupportCode: "问题代码 {}", "Code for support: {}";
        TimeLeft: "剩余支付时间", "Time left";
        FiveMinutesLeft: "还剩 5 分钟", "5 minutes left";
        OneMinuteLeft: "还剩 1 分钟，请尽快付款；超时后可返回商家重新下单", "1 minute left to pay; after that you can order again";
        ThirtySecondsLeft: "还剩 30 秒", "30 seconds left";
        Pending: "待支付", "To pay";
        Scanned: "已扫码", "Scanned";
        ScannedMeans: "已扫码，请在手机上确认支付", "Scanned; please confirm the payment on your phone";
        Confirming: "正在确认支付结果", "Confirming your payment";
        ConfirmingMeans: "请勿重复付款，通常只需几秒钟", "Please do not pay again; this usually takes a few seconds";
        Paid: "支付成功", "Payment successful";
        SpokenPaid: "支付成功，金额 {} 元", "Payment successful, {} yuan";
        SpokenScanWx: "请使用微信扫码支付，金额 {} 元", "Scan with WeChat to pay {} yuan";
        SpokenScanAli: "请使用支付宝扫码支付，金额 {} 元", "Scan with Alipay to pay {} yuan";
        SpokenScanAny: "请使用微信或支付宝扫码支付，金额 {} 元", "Scan with WeChat or Alipay to pay {} yuan";
        SpokenHere: "请点击立即支付，金额 {} 元", "Press Pay now to pay {} yuan";
        Expired: "二维码已过期", "The QR code has expired";
        ExpiredMeans: "订单未支付，没有发生扣款。请返回商家重新下单",
            "The order was not paid and no money was taken. Please order again at the merchant";
        Closed: "订单已关闭", "The order is closed";
        ClosedMeans: "没有发生扣款。如需购买，请返回商家重新下单",
            "No money was taken. To buy, please order again at the merchant";
        PaidLate: "已收到您的付款", "We have received your payment";
        PaidLateMeans: "付款到账时订单已结束，您无需再次付款", "It came after the order had ended; you need not pay again";
        PaidTwiceMeans: "检测到重复付款", "We noticed a second payment";
        AmountMismatch: "付款金额异常", "The amount paid is not right";
        AmountMismatchMeans: "收到的金额与订单不符，请勿再次付款",
            "The amount received differs from the order; please do not pay again";
        ExtraHeld: "这笔款项已通知商家核对，商家会联系您", "The merchant has been told of it and will contact you";
        ExtraReturning: "这笔款项正在原路退回，通常 1–3 个工作日到账",
            "It is being returned the way it came, usually within 1–3 working days";
        ExtraReturned: "这笔款项已原路退回", "It has been returned the way it came";
        ExtraStuck: "这笔款项未能自动退回，商家会联系您处理",
            "It could not be returned by itself; the merchant will contact you";
        Offline: "网络已断开，正在重新连接；您的付款不会丢失", "You are offline, reconnecting; your payment will not be lost";
    }
}

catalogue! {
    /// What only the server writes.
    Label {
        Amount: "订单金额", "Amount";
        OrderNumber: "订单号", "Order number";
        AmountDue: "应付", "Amount due";
        SpokenAmount: "{} 元", "{} yuan";
        Copy: "复制", "Copy";
        CopyOrderNumber: "复制订单号", "Copy order number";
        OtherLanguage: "English", "中文";
        Method: "支付方式", "Payment method";
        MarkWx: "微", "微";
        MarkAli: "支", "支";
        UseMethod: "使用所选方式", "Use this method";
        OnPhone: "请用另一台手机扫码，或保存二维码后在应用内识别",
            "Scan it with another phone, or save the picture and open it in the app";
        ScanInstead: "用另一台手机扫码", "Scan with another phone";
        HereInstead: "在本机打开付款", "Pay on this phone";
        LogInInstead: "登录支付宝网页付款", "Log in to Alipay in this browser";
        AnyInstead: "通用二维码", "One code for any app";
        Down: "暂时不可用", "Not available now";
        Stuck: "没有自动打开？请再点一次“立即支付”，或用另一台手机扫码；也请确认已安装对应的应用",
            "It did not open? Press Pay now again, or scan with another phone; the app must be installed";
        StuckInside: "没有自动打开？请再点一次“立即支付”；仍未打开时，请关闭本页，回到商家重新打开",
            "It did not open? Press Pay now again; else close this page and open it from the shop again";
        CopyLink: "复制付款链接", "Copy the payment link";
        UseAlipay: "用支付宝付款", "Pay with Alipay";
        NewCode: "重新获取二维码", "Get a new QR code";
        NotYet: "暂未收到付款，您可以继续支付", "No payment has arrived yet; you can still pay";
        HavePaid: "我已支付，刷新结果", "I have paid, check again";
        Refunding: "正在退款 {} 元，款项将原路退回，通常 1–3 个工作日到账",
            "{} yuan are being refunded the way they came, usually within 1–3 working days";
        Refunded: "已退款 {} 元，款项已原路退回", "{} yuan have been refunded the way they came";
        RefundedAll: "已全额退款 {} 元，款项已原路退回", "All {} yuan have been refunded the way they came";
        Back: "返回商家", "Back to the merchant";
        Returning: "{} 秒后自动返回商家", "Back to the merchant in {} s";
        Stay: "留在本页", "Stay here";
        CloseTab: "您可以关闭此页面，回到商家继续", "You can close this page and go back to the merchant";
        Support: "遇到问题？订单号 …{}", "Need help? Order …{}";
        LastKnown: "付款结果以本页显示为准", "This page shows the result as confirmed by the payment provider";
        UnknownTitle: "找不到这个订单", "We cannot find this order";
        UnknownMeans: "链接可能不完整或已失效，没有发生扣款。请返回商家，重新打开支付页面",
            "The link may be incomplete or too old; no money was taken. Please open it from the shop again";
        BrokenTitle: "暂时无法显示订单", "The order cannot be shown right now";
        BrokenMeans: "已支付的款项不会丢失。本页会自动重试", "Nothing you have paid is lost. This page tries again by itself";
        PayInWechat: "微信支付 ¥{}", "Pay ¥{} with WeChat";
        Opening: "正在打开微信支付", "Opening WeChat Pay";
        OpeningMeans: "请在弹出的窗口中完成付款", "Please pay in the window that opens";
        UnpaidMeans: "暂未收到付款。如微信已提示付款成功，请稍候，勿重复付款；否则可重新支付",
            "No payment has arrived yet. If WeChat says it is done, please wait; else you can pay again";
        Cancelled: "已取消，可重新支付", "Cancelled; you can pay again";
        CancelledMeans: "您没有完成付款，订单仍可继续支付", "You did not pay; the order is still open";
        Failed: "支付未完成", "The payment was not completed";
        FailedMeans: "微信没有受理这次付款。如已扣款，本页会自动显示结果；否则请重新开始，或换一种方式支付",
            "WeChat did not take it. If money was taken, this page shows it; else begin again";
        Unregistered: "暂时无法在微信内支付", "Paying inside WeChat is not possible yet";
        UnregisteredMeans: "商家的支付目录未登记，没有发生扣款。请换一种方式支付，并将问题代码告知商家",
            "It is not registered at WeChat; no money was taken. Please tell the merchant the code";
        NoWallet: "没有连上微信支付", "WeChat Pay does not answer";
        NoWalletMeans: "没有发生扣款。请关闭本页，从微信中重新打开；也可换一种方式支付",
            "No money was taken. Close this page and open it from WeChat again, or pay another way";
        NeedsScript: "在微信内付款需要 JavaScript。请点击右上角“…”，选择“在浏览器打开”继续付款",
            "Paying inside WeChat needs JavaScript. Tap … at the top right and choose “Open in browser”";
        Preparing: "正在准备支付", "Preparing the payment";
        PreparingMeans: "本页会自动继续，通常只需几秒钟", "This page goes on by itself, usually within seconds";
        Stale: "这次打开已失效", "This link is no longer good";
        StaleMeans: "链接已用过、已过期，或不是从这里打开的；没有发生扣款。请重新开始",
            "It was used before, is too old, or was not opened here; no money was taken. Please begin again";
        BeginAgain: "重新开始", "Begin again";
        Preview: "您正在预览本页", "You are looking at a preview";
        PreviewMeans: "请点击右下角“使用完整服务”，然后继续付款",
            "Tap “Use full service” (使用完整服务) at the bottom right, then go on";
        GoOn: "继续付款", "Go on";
        OtherWay: "换一种方式支付", "Pay another way";
        NoOtherWay: "正在确认支付结果，暂不能更换支付方式",
            "Your payment is being confirmed: no other method can be chosen now";
    }
}

catalogue! {
    /// What the shop's tablet says besides.
    PadText {
        PairTitle: "配对收款平板", "Pair this tablet";
        PairingCode: "配对码", "Pairing code";
        PairHint: "在收银系统中新建一个收款平板，把得到的配对码输入这里。配对码 10 分钟内有效，只能使用一次",
            "Add a pad in your till and type the code that it gives you. A code works once, for 10 minutes";
        Pair: "配对", "Pair";
        CodeWrong: "配对码不正确或已失效，请重新获取", "This code is wrong or too old; please get a new one";
        CodesUsedUp: "尝试次数过多，请稍后再试", "Too many tries; please wait a little";
        Waiting: "等待收款", "Ready for the next payment";
        Broken: "暂时无法收款，正在自动重试", "Payments cannot be taken right now; trying again";
        NoNetwork: "网络已断开，正在重新连接", "No network, reconnecting";
        OrderTail: "订单 …{}", "Order …{}";
        Staff: "店员", "Staff";
        StaffTitle: "店员操作", "For staff";
        Pin: "店员 PIN 码", "Staff PIN";
        Unlock: "解锁", "Unlock";
        PinWrong: "PIN 码不正确", "This PIN is wrong";
        TakeOff: "取消收款", "Take the order off";
        PayBy: "改用{}", "Use {}";
        PrintAgain: "重新打印", "Print again";
        Done: "完成", "Done";
        LastOrders: "最近五笔", "Last five orders";
        NoOrders: "还没有收款", "None yet";
        Order: "订单", "Order";
        State: "状态", "State";
        Time: "时间", "Time";
        Receipt: "收款凭证", "Receipt";
        SoundOn: "开启提示音", "Turn sound on";
    }
}

impl Locale {
    /// The tablet's text in this language.
    pub const fn pad(self, text: PadText) -> &'static str {
        text.in_locale(self)
    }

    /// The text in this language.
    pub const fn say(self, text: Text) -> &'static str {
        text.in_locale(self)
    }

    /// The label in this language.
    pub const fn label(self, label: Label) -> &'static str {
        label.in_locale(self)
    }

    /// The text in this language, filled in.
    pub fn fill(self, text: Text, with: &str) -> String {
        fill(self.say(text), with)
    }

    /// The other language.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Zh => Self::En,
            Self::En => Self::Zh,
        }
    }
}

/// The text with its `{}` filled in.
pub fn fill(text: &str, with: &str) -> String {
    match text.split_once("{}") {
        Some((before, after)) => [before, with, after].concat(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<(&'static str, &'static str)> {
        let both = |zh, en| (zh, en);
        let texts = Text::ALL.iter().map(|text| both(text.in_locale(Locale::Zh), text.in_locale(Locale::En)));
        let labels =
            Label::ALL.iter().map(|label| both(label.in_locale(Locale::Zh), label.in_locale(Locale::En)));
        let pads =
            PadText::ALL.iter().map(|text| both(text.in_locale(Locale::Zh), text.in_locale(Locale::En)));
        texts.chain(labels).chain(pads).collect()
    }

    #[test]
    fn every_text_is_there_in_both_languages() {
        for (zh, en) in all() {
            assert!(!zh.is_empty() && !en.is_empty(), "{zh} {en}");
            assert_eq!(zh.matches("{}").count(), en.matches("{}").count(), "{zh}");
            // Bad Chinese for "invoice".
            assert!(!zh.contains("发票"), "{zh}");
        }
        assert_eq!(Locale::En.fill(Text::SpokenPaid, "1.00"), "Payment successful, 1.00 yuan");
    }

    #[test]
    fn success_is_said_by_two_texts_only() {
        let saying: Vec<_> =
            all().into_iter().map(|(zh, _)| zh).filter(|zh| zh.contains("支付成功")).collect();
        assert_eq!(saying, ["支付成功", "支付成功，金额 {} 元"]);
    }
}
