module dexorder.io/tests/cluster/dnscheck

go 1.26.0
