"""Everything that must not pass the gateway, and its benign twin that does.

rows/       the table: what is sent, byte by byte, and the only answer that will do
exchange    sends a row over HTTP/1.1 or HTTP/2, with no library that would put it right
recorder    the server behind the gateway, which keeps every byte it gets and believes everything
door        Envoy with our configuration in front of it, keys, and forged keys
naive       a gateway as one writes it on an afternoon: the same bytes get through
"""
