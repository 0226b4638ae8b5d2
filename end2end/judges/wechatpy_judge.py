"""PyPI wechatpy as a judge: one task a call, JSON on standard input, one JSON line on standard output.

Never imports anything of ours; the test beside it says what it wants judged.
"""

import json
import sys

from wechatpy.exceptions import InvalidSignatureException
from wechatpy.oauth import WeChatOAuth
from wechatpy.pay import WeChatPay
from wechatpy.pay.utils import calculate_signature, calculate_signature_hmac


def client(task):
    WeChatPay.API_BASE_URL = task["base_url"].rstrip("/") + "/"
    return WeChatPay(task["app_id"], task["key"], task["mch_id"])


def sign(task):
    """The signature that WeChat would expect over these fields."""
    calculate = calculate_signature_hmac if task["sign_type"] == "HMAC-SHA256" else calculate_signature
    return calculate(task["fields"], task["key"])


def order(task):
    """Places an order at the gateway as this library does it, and says whether the answer is rightly signed."""
    pay = client(task)
    answer = pay.order.create(
        trade_type="NATIVE",
        body=task["title"],
        total_fee=task["total_fee"],
        notify_url=task["notify_url"],
        client_ip="127.0.0.1",
        out_trade_no=task["out_trade_no"],
        product_id=task["out_trade_no"],
    )
    return {"answer": answer, "signed": pay.check_signature(dict(answer))}


def query(task):
    pay = client(task)
    answer = pay.order.query(out_trade_no=task["out_trade_no"])
    return {"answer": answer, "signed": pay.check_signature(dict(answer))}


def notice(task):
    """What the library makes of a payment notice; null if it does not trust it."""
    try:
        return client(task).parse_payment_result(task["xml"])
    except InvalidSignatureException:
        return None


def refund(task):
    pay = client(task)
    answer = pay.refund.apply(
        total_fee=task["total_fee"],
        refund_fee=task["refund_fee"],
        out_refund_no=task["out_refund_no"],
        out_trade_no=task["out_trade_no"],
        refund_desc=task["reason"],
        notify_url=task["notify_url"],
    )
    return {"answer": answer, "signed": pay.check_signature(dict(answer))}


def refund_query(task):
    pay = client(task)
    answer = pay.refund.query(out_refund_no=task["out_refund_no"])
    return {"answer": answer, "signed": pay.check_signature(dict(answer))}


def refund_notice(task):
    """What the library reads in a refund notice, which has no signature: only who has the key can open it. Else null."""
    try:
        return client(task).parse_refund_notify_result(task["xml"])
    except Exception:  # The library does not say which: a wrong key makes noise of the bytes.
        return None


def oauth_path(task):
    """Path and query of the page where WeChat is asked who this is."""
    oauth = WeChatOAuth(task["app_id"], "secret", task["redirect_uri"], scope="snsapi_base", state=task["state"])
    return oauth.authorize_url.removeprefix("https://open.weixin.qq.com").removesuffix("#wechat_redirect")


def jsapi(task):
    """Places an order for one payer, and makes what a page hands to WeChat's wallet."""
    pay = client(task)
    answer = pay.order.create(
        trade_type="JSAPI",
        body=task["title"],
        total_fee=task["total_fee"],
        notify_url=task["notify_url"],
        client_ip="127.0.0.1",
        out_trade_no=task["out_trade_no"],
        user_id=task["openid"],
    )
    return {"params": pay.jsapi.get_jsapi_params(answer["prepay_id"]), "signed": pay.check_signature(dict(answer))}


TASKS = {
    "oauth_path": oauth_path,
    "jsapi": jsapi,
    "sign": sign,
    "order": order,
    "query": query,
    "notice": notice,
    "refund": refund,
    "refund_query": refund_query,
    "refund_notice": refund_notice,
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](json.load(sys.stdin))))
