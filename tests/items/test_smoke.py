from tests.factories import *
async def test_all(people, statements, app):
    alice = await people.sign_in("alice"); bob = await people.sign_in("bob")
    r = await alice.post("/items/", json={"title":"Straße 1%","description":"Ünï_code"}, headers={"Idempotency-Key":"k"*255})
    print(r.status_code, r.headers, r.text)
    r2 = await alice.post("/items", json={"description":"Ünï_code","title":"Straße 1%"}, headers={"Idempotency-Key":"k"*255})
    assert (r2.status_code, r2.text, r2.headers["etag"], r2.headers["location"])==(r.status_code,r.text,r.headers["etag"],r.headers["location"])
    assert "x" not in r2.headers
    print((await alice.post("/items/", json={"title":"b"}, headers={"Idempotency-Key":"k"*255})).text)
    print((await alice.post("/items/", json={"title":"b"}, headers={"Idempotency-Key":"k"*256})).text)
    print((await alice.post("/items/", json={"title":"b"}, headers={"Idempotency-Key":""})).text)
    statements.clear()
    r = await alice.post("/items/", json={"title":"b"}, headers={"Idempotency-Key":"z"}); print(r.status_code); print("\n".join(statements))
    for i in range(5): await create_item(alice, f"t{i}", "d")
    for sort in ("id","-id","title","-title","updated_at","-updated_at"):
        url=f"/items/?limit=3&sort={sort}&count=true"; seen=[]
        while url:
            statements.clear()
            r=await alice.get(url); assert r.status_code==200, r.text
            seen+= [x["id"] for x in r.json()]; link=r.headers.get("link"); url = link and link[1:link.index(">")]
        print(sort, seen, r.headers["x-total-count"], statements[-2:])
    statements.clear()
    r=await alice.get("/items?q=STRASSE+1%25+_"); print(r.text); print("\n".join(statements))
    r=await alice.get("/items?q="); print(len(r.json()))
    r=await alice.get("/items?q=%20"); print(len(r.json()))
    for bad in ("limit=0","limit=101","limit=x","limit=","limit=1_0","limit=+5","limit=%2B5","limit=05","limit=%205","limit=%D9%A1","limit=1.0","sort=x","sort=","sort=--id","cursor=","cursor=abc","cursor=é","count=x","count=","count=TRUE","count=1","q="+"x"*201,"q=a+b+c+d+e+f+g+h+i+j+k","foo=1","limit=1&limit=2","q=%00","q=%FF","q=%ED%A0%80"):
        r=await alice.get("/items?"+bad); print(bad[:20], r.status_code, r.text[-80:])
    statements.clear()
    r=await alice.patch("/items/1", json={"description":None}); print(r.status_code, r.text, r.headers.get("etag")); print("\n".join(statements))
    for h in ({"If-Match":'"1"'},{"If-Match":'W/"2"'},{"If-Match":'*'},{"If-Match":'"7", "2"'},{"If-Match":'"02"'},{"If-Match":''},{"If-Match":'2'}):
        r=await alice.patch("/items/1", json={}, headers=h); print(h, r.status_code, r.headers.get("etag"))
    statements.clear()
    print((await bob.patch("/items/1", json={})).text, (await bob.delete("/items/1")).text, (await bob.patch("/items/99", json={})).text, (await alice.patch("/items/1", json={"title":None})).text)
    statements.clear()
    r=await alice.delete("/items/1", headers={"If-Match":'"2"'}); print(r.status_code, r.headers); print("\n".join(statements))
    r=await alice.get("/items/2", headers={"If-None-Match":'W/"1"'}); print(r.status_code, r.headers)
