-- Anybody may send what is not trusted: the oldest of these make room for new ones, found without a scan.
CREATE INDEX untrusted_notices ON inbox (id) WHERE verdict IN ('untrusted', 'foreign');
