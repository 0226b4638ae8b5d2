# Makes python.json: what the PyPI packages wechatpy and python-alipay-sdk sign and send.
# In an empty virtual environment: pip install wechatpy==1.8.18 python-alipay-sdk==3.4.0 cryptography pycryptodomex
# and run this file. The keys beside it are throw-away; the API key is the one of the published example.
import base64
import hashlib
import json
import platform
import threading
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote_plus, urlencode

from alipay import AliPay
from Cryptodome.Cipher import AES
from Cryptodome.Util.Padding import pad
from wechatpy.pay import WeChatPay, dict_to_xml
from wechatpy.pay.utils import calculate_signature, calculate_signature_hmac

HERE = Path(__file__).parent
REQUESTS = []


class Catcher(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        REQUESTS.append(
            {"method": self.command, "url": self.path, "content_type": self.headers.get("content-type") or "", "body": body}
        )
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<xml><return_code>FAIL</return_code></xml>")

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def catch(name, call):
    try:
        call()
    except Exception:
        pass
    return {"name": name, **REQUESTS[-1]}


server = HTTPServer(("127.0.0.1", 0), Catcher)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"


def pem(name):
    return (HERE / "keys" / name).read_text()


# WeChat.
KEY = "192006250b4c09247ec02edce69f6a2d"
IDS = {"appid": "wxd930ea5d5a258f4f", "mch_id": "10000100", "nonce_str": "ibuaiVcKdpRxkhJA"}
CASES = {
    "official example": {**IDS, "device_info": "1000", "body": "test"},
    "metacharacters": {**IDS, "body": "测试 & <商品> = \"x\" 'y' ]]>", "total_fee": "1"},
    "upper case before lower case": {**IDS, "Zeta": "1", "alpha": "2", "_x": "3", "A": "4"},
    "empty values are dropped": {**IDS, "attach": "", "is_subscribe": "0"},
}
wechat = []
for name, fields in CASES.items():
    wechat.append({"name": name, "type": "MD5", "fields": fields, "sign": calculate_signature(fields, KEY)})
    wechat.append({"name": name, "type": "HMAC-SHA256", "fields": fields, "sign": calculate_signature_hmac(fields, KEY)})

WeChatPay.API_BASE_URL = base + "/"
pay = WeChatPay(IDS["appid"], KEY, IDS["mch_id"])
wechat_requests = [
    catch(
        "unifiedorder MD5",
        lambda: pay.order.create(
            trade_type="NATIVE", body="测试 & <商品>", total_fee=1, client_ip="127.0.0.1",
            notify_url="https://pay.example.com/rest/pub/wx/pay_notify", out_trade_no="T2026060100000001", product_id="P1",
        ),
    ),
    catch("orderquery", lambda: pay.order.query(out_trade_no="T2026060100000001")),
    catch("closeorder", lambda: pay.order.close("T2026060100000001")),
]
pay_params = pay.jsapi.get_jsapi_params(
    "wx201410272009395522657a690389285100", timestamp="1414561699", nonce_str="5K8264ILTKCH16CQ2502SI8ZNMTM67VS"
)
paid = {
    "return_code": "SUCCESS", **IDS, "result_code": "SUCCESS", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "is_subscribe": "N",
    "trade_type": "NATIVE", "bank_type": "OTHERS", "total_fee": "11", "cash_fee": "10", "fee_type": "CNY",
    "transaction_id": "4200001234202606011234567890", "out_trade_no": "T2026060100000001", "time_end": "20260601120000",
}
notice = dict_to_xml(paid, calculate_signature(paid, KEY))
notice = notice if isinstance(notice, str) else notice.decode()
pay.parse_payment_result(notice)
wechat_notices = [{"name": "payment MD5", "type": "MD5", "body": notice}]


wechat_refund_requests = [
    catch(
        "refund MD5",
        lambda: pay.refund.apply(
            11, 10, "T2026060100000001_r1", out_trade_no="T2026060100000001", refund_desc="少了 & <一杯>",
            notify_url="https://pay.example.com/rest/pub/wx/refund_notify",
        ),
    ),
    catch("refundquery", lambda: pay.refund.query(out_refund_no="T2026060100000001_r1")),
]
# wechatpy only opens such notices: they are sealed by Cryptodome and opened by it here.
wechat_refund_notices = []
for status in ["SUCCESS", "REFUNDCLOSE", "CHANGE"]:
    told = {
        "out_refund_no": "T2026060100000001_r1", "out_trade_no": "T2026060100000001", "refund_fee": "10", "refund_id": "50000408942018111907145868882",
        "refund_recv_accout": "支付用户零钱", "refund_status": status, "success_time": "2026-06-02 12:00:00", "total_fee": "11", "future_field": "新",
    }
    root = dict_to_xml(told).replace("<xml>", "<root>").replace("</xml>", "</root>")
    cipher = AES.new(hashlib.md5(KEY.encode()).hexdigest().encode(), AES.MODE_ECB)
    req_info = base64.b64encode(cipher.encrypt(pad(root.encode(), 16))).decode()
    body = dict_to_xml({"return_code": "SUCCESS", **IDS, "req_info": req_info})
    assert pay.parse_refund_notify_result(body)["out_refund_no"] == "T2026060100000001_r1"
    wechat_refund_notices.append({"name": status, "body": body})


# Alipay.
def client(private, public, gateway=None):
    made = AliPay(
        appid="2014072300007148", app_notify_url="https://pay.example.com/rest/pub/ali/pay_notify",
        app_private_key_string=pem(private), alipay_public_key_string=pem(public), sign_type="RSA2",
    )
    if gateway:
        made._gateway = gateway
    return made


app = client("app.pkcs1.pem", "alipay.spki.pem", base + "/gateway.do")
BIZ = OrderedDict(out_trade_no="T20260601_1", total_amount="11.10", subject='测试 + 100% "茶"', body="a+b", time_expire="2099-01-01 00:00:00")
order_strings = [{"name": "app.pay", "text": app.client_api("alipay.trade.app.pay", biz_content={**BIZ, "product_code": "QUICK_MSECURITY_PAY"})}]
alipay_requests = [
    catch("precreate", lambda: app.server_api("alipay.trade.precreate", biz_content=dict(BIZ))),
    catch("query", lambda: app.server_api("alipay.trade.query", biz_content={"out_trade_no": "T20260601_1"})),
    catch("close", lambda: app.server_api("alipay.trade.close", biz_content={"out_trade_no": "T20260601_1"})),
]

alipay_refund_requests = [
    catch("refund", lambda: app.server_api("alipay.trade.refund", biz_content=dict(out_trade_no="T20260601_1", out_request_no="T20260601_1_r1", refund_amount="1.10", refund_reason='少了 + 100% "一杯"'))),
    catch("refund query", lambda: app.server_api("alipay.trade.fastpay.refund.query", biz_content={"out_trade_no": "T20260601_1", "out_request_no": "T20260601_1_r1"})),
]

# The gateway's own words, signed by the same library with Alipay's key and checked by a client's.
gateway = client("alipay.pkcs8.pem", "app.spki.pem")
NOTICE = {
    "notify_time": "2026-06-01 12:00:01", "notify_type": "trade_status_sync", "notify_id": "4a91b7a78a503640467525113fb7d8bg8e",
    "charset": "utf-8", "version": "1.0", "app_id": "2014072300007148", "auth_app_id": "2014072300007148", "seller_id": "2088102146225135",
    "buyer_id": "2088102116773037", "buyer_logon_id": "138****0000", "out_trade_no": "T20260601_1", "trade_no": "2026060121001004600200001234",
    "trade_status": "TRADE_SUCCESS", "total_amount": "11.1", "receipt_amount": "11.10", "subject": '测试 + 100% & "茶" = 杯', "body": "a+b%20c",
    "gmt_create": "2026-06-01 11:59:30", "gmt_payment": "2026-06-01 12:00:00",
    "fund_bill_list": '[{"amount":"11.10","fundChannel":"ALIPAYACCOUNT"}]', "passback_params": "merchantBizType=3C&x=%E6%B5%8B",
}
NOTICES = {
    "paid": {},
    "paid, an empty field signed with the rest": {"body": ""},
    "paid, an unknown field": {"future_field": "新"},
    "a part was given back": {"refund_fee": "1.10", "gmt_refund": "2026-06-02 12:00:00.123", "out_biz_no": "R1"},
    "all was given back": {"trade_status": "TRADE_CLOSED", "refund_fee": "11.10", "gmt_refund": "2026-06-02 12:00:00.123"},
    "finished": {"trade_status": "TRADE_FINISHED"},
    "waiting": {"trade_status": "WAIT_BUYER_PAY", "gmt_payment": None},
    "closed unpaid": {"trade_status": "TRADE_CLOSED", "gmt_payment": None},
}


def signed(params):
    text = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
    return gateway._sign(text)


alipay_notices = []
for name, changes in NOTICES.items():
    params = {key: value for key, value in {**NOTICE, **changes}.items() if value is not None}
    sign = signed(params)
    assert app.verify({**params, "sign_type": "RSA2"}, sign)
    full = {**params, "sign_type": "RSA2", "sign": sign}
    alipay_notices.append({"name": name, "body": urlencode(full, quote_via=quote_plus)})

NODES = {
    "precreate": ("alipay.trade.precreate", r'{"code":"10000","msg":"Success","out_trade_no":"T20260601_1","qr_code":"https:\/\/qr.alipay.com\/bax03206ug0kulveltqc80a8"}'),
    "query paid": ("alipay.trade.query", r'{"msg":"Success","code":"10000","buyer_user_id":"2088102116773037","send_pay_date":"2026-06-01 12:00:00","fund_bill_list":[{"amount":"11.10","fund_channel":"ALIPAYACCOUNT"}],"out_trade_no":"T20260601_1","total_amount":"11.10","trade_no":"2026060121001004600200001234","trade_status":"TRADE_SUCCESS","ext_infos":"{\"x\":\"}\\\"{\"}"}'),
    "query of nothing": ("alipay.trade.query", r'{"code":"40004","msg":"Business Failed","sub_code":"ACQ.TRADE_NOT_EXIST","sub_msg":"交易不存在","buyer_pay_amount":"0.00","out_trade_no":"T20260601_1"}'),
    "close": ("alipay.trade.close", r'{"code":"10000","msg":"Success","out_trade_no":"T20260601_1","trade_no":"2026060121001004600200001234"}'),
}
alipay_replies = [
    {"name": name, "body": '{"%s_response":%s,"sign":"%s"}' % (method.replace(".", "_"), node, gateway._sign(node))}
    for name, (method, node) in NODES.items()
]
REFUNDS = {
    "taken": ("alipay.trade.refund", r'{"code":"10000","msg":"Success","buyer_logon_id":"138****0000","fund_change":"Y","gmt_refund_pay":"2026-06-02 12:00:00","out_trade_no":"T20260601_1","refund_detail_item_list":[{"amount":"1.10","fund_channel":"ALIPAYACCOUNT"}],"refund_fee":"2.20","send_back_fee":"1.10","trade_no":"2026060121001004600200001234","buyer_user_id":"2088102116773037"}'),
    "repeated": ("alipay.trade.refund", r'{"code":"10000","msg":"Success","fund_change":"N","gmt_refund_pay":"2026-06-02 12:00:00","out_trade_no":"T20260601_1","refund_fee":"1.10","send_back_fee":"0.00","trade_no":"2026060121001004600200001234"}'),
    "not enough": ("alipay.trade.refund", r'{"code":"40004","msg":"Business Failed","sub_code":"ACQ.SELLER_BALANCE_NOT_ENOUGH","sub_msg":"卖家余额不足","refund_fee":"0.00","send_back_fee":"0.00"}'),
    "queried": ("alipay.trade.fastpay.refund.query", r'{"code":"10000","msg":"Success","gmt_refund_pay":"2026-06-02 12:00:00","out_request_no":"T20260601_1_r1","out_trade_no":"T20260601_1","refund_amount":"1.10","refund_status":"REFUND_SUCCESS","total_amount":"11.10","trade_no":"2026060121001004600200001234"}'),
    "query of nothing": ("alipay.trade.fastpay.refund.query", r'{"code":"10000","msg":"Success"}'),
}
alipay_refund_replies = [
    {"name": name, "body": '{"%s_response":%s,"sign":"%s"}' % (method.replace(".", "_"), node, gateway._sign(node))}
    for name, (method, node) in REFUNDS.items()
]

made = {
    "origin": f"PyPI wechatpy {version('wechatpy')}, python-alipay-sdk {version('python-alipay-sdk')}, Python {platform.python_version()}",
    "wechat": wechat, "wechat_requests": wechat_requests, "wechat_notices": wechat_notices, "pay_params": pay_params,
    "order_strings": order_strings, "alipay_requests": alipay_requests, "alipay_notices": alipay_notices, "alipay_replies": alipay_replies,
    "wechat_refund_requests": wechat_refund_requests, "wechat_refund_notices": wechat_refund_notices,
    "alipay_refund_requests": alipay_refund_requests, "alipay_refund_replies": alipay_refund_replies,
}
(HERE / "python.json").write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n")
