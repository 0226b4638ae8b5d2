-- Some codes are for one payer: WeChat's openid, or the address of a browser.
ALTER TABLE attempts ADD COLUMN payer TEXT;
