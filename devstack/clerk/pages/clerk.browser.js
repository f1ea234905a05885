/* The subset of ClerkJS that VantageEdge uses, against the stand-in. Same global, same calls, same cookies.
   Runs under `script-src 'self' <this host>` and `connect-src 'self' <this host>`; styles come from a constructed
   style sheet in a shadow root, so no inline style is needed. */
(() => {
  "use strict";
  const script = document.currentScript;
  const FAPI = ((script && script.dataset.clerkProxyUrl) || "%FAPI_URL%").replace(/\/$/, "");
  const KEY = (script && script.dataset.clerkPublishableKey) || "%PUBLISHABLE_KEY%";
  const SUFFIX = "%COOKIE_SUFFIX%";
  const YEAR_S = 31536000, RENEW_BEFORE_S = 15, POLL_MS = 5000, DEV_BROWSER = "__clerk_db_jwt";

  const readCookie = (name) => {
    const found = document.cookie.split("; ").find((each) => each.startsWith(name + "="));
    return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
  };
  const writeCookie = (name, value, sameSite = "Lax") => {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    const age = value === "" ? 0 : YEAR_S;
    for (const each of [name, `${name}_${SUFFIX}`]) {
      document.cookie = `${each}=${encodeURIComponent(value)}; Path=/; Max-Age=${age}; SameSite=${sameSite}${secure}`;
    }
  };
  const claimsOf = (jwt) => {
    const part = jwt.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return JSON.parse(decodeURIComponent(Array.from(atob(part), (c) => "%" + c.charCodeAt(0).toString(16).padStart(2, "0")).join("")));
  };

  class ClerkAPIError extends Error {
    constructor(status, body) {
      const errors = (body && body.errors) || [];
      super(errors.length ? errors[0].message : `the sign-in service answered ${status}`);
      this.status = status; this.errors = errors; this.clerkError = true;
    }
  }

  const call = async (path, { method = "GET", form = null } = {}) => {
    const url = new URL(FAPI + path);
    const token = readCookie(DEV_BROWSER);
    if (token) url.searchParams.set(DEV_BROWSER, token);
    url.searchParams.set("_clerk_js_version", "6.0.0-stand-in");
    if (method !== "GET" && method !== "POST") url.searchParams.set("_method", method);
    const answer = await fetch(url, {
      method: method === "GET" ? "GET" : "POST",
      credentials: "include",
      body: form ? new URLSearchParams(form) : undefined,
    });
    const body = await answer.json().catch(() => null);
    if (!answer.ok) throw new ClerkAPIError(answer.status, body);
    return body;
  };

  class Session {
    #clerk; #tokens = new Map(); #pending = new Map();
    constructor(clerk, said) { this.#clerk = clerk; this.update(said); }
    update(said) {
      this.id = said.id; this.status = said.status; this.user = new User(said.user);
      this.lastActiveOrganizationId = said.last_active_organization_id;
      this.expireAt = new Date(said.expire_at); this.lastActiveAt = new Date(said.last_active_at);
      this.publicUserData = said.public_user_data || {};
    }
    get lastActiveToken() {
      const token = this.#tokens.get(this.lastActiveOrganizationId || "");
      return token ? { getRawString: () => token, jwt: { claims: claimsOf(token) } } : null;
    }
    async getToken({ template, organizationId, skipCache = false } = {}) {
      if (this.#clerk.session !== this) return null;
      const org = organizationId === undefined ? this.lastActiveOrganizationId || "" : organizationId || "";
      const key = template ? `${template}:${org}` : org;
      const held = this.#tokens.get(key);
      if (held && !skipCache && claimsOf(held).exp - Date.now() / 1000 > RENEW_BEFORE_S) return held;
      if (!this.#pending.has(key)) {
        const path = `/v1/client/sessions/${this.id}/tokens${template ? "/" + encodeURIComponent(template) : ""}`;
        const asked = call(path, { method: "POST", form: { organization_id: org } }).then(({ jwt }) => {
          this.#tokens.set(key, jwt);
          if (!template && org === (this.lastActiveOrganizationId || "")) writeCookie("__session", jwt);
          return jwt;
        }).catch((error) => {
          if (error.status === 401) { this.#clerk.signedOutElsewhere(); return null; }
          throw error;
        }).finally(() => this.#pending.delete(key));
        this.#pending.set(key, asked);
      }
      return this.#pending.get(key);
    }
    clearCache() { this.#tokens.clear(); }
    async touch() { return call(`/v1/client/sessions/${this.id}/touch`, { method: "POST", form: { active_organization_id: this.lastActiveOrganizationId || "" } }); }
    async end() { await call(`/v1/client/sessions/${this.id}/end`, { method: "POST" }); this.#clerk.signedOutElsewhere(); }
    async remove() { await call(`/v1/client/sessions/${this.id}/remove`, { method: "POST" }); this.#clerk.signedOutElsewhere(); }
    checkAuthorization({ role } = {}) { const held = this.#clerk.membership; return Boolean(held && (!role || held.role === role)); }
  }

  class User {
    constructor(said) {
      this.id = said.id; this.username = said.username; this.firstName = said.first_name; this.lastName = said.last_name;
      this.fullName = `${said.first_name} ${said.last_name}`; this.imageUrl = said.image_url; this.hasImage = said.has_image;
      this.primaryEmailAddress = { emailAddress: said.email_addresses[0].email_address };
      this.emailAddresses = [this.primaryEmailAddress];
      this.organizationMemberships = (said.organization_memberships || []).map((held) => ({
        id: held.id, role: held.role, permissions: held.permissions,
        organization: { id: held.organization.id, name: held.organization.name, slug: held.organization.slug, imageUrl: "" },
      }));
    }
    async getOrganizationMemberships() { return { data: this.organizationMemberships, total_count: this.organizationMemberships.length }; }
  }

  const SHEET = `
    :host { display: block; --ink: #16191d; --soft: #575e68; --line: #d3d8df; --card: #fff; --accent: #3451d1; --face: #e7ebfb; color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
    :host([theme=dark]) { --ink: #e9ecf0; --soft: #a2abb6; --line: #343a44; --card: #181b20; --accent: #94a8ff; --face: #262d4d; }
    .card { padding: 1.5rem; background: var(--card); border: 1px solid var(--line); border-radius: 14px; max-width: 26rem; }
    h2 { margin: 0 0 .25rem; font-size: 1.2rem; } p { margin: 0 0 1rem; color: var(--soft); font-size: .9rem; }
    ul { list-style: none; margin: 0; padding: 0; display: grid; gap: .5rem; }
    button, select { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 10px; cursor: pointer; }
    .person { display: flex; gap: .8rem; align-items: center; width: 100%; padding: .7rem .8rem; text-align: left; }
    .person:hover { border-color: var(--accent); } :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
    .face { flex: none; display: grid; place-items: center; width: 2.3rem; height: 2.3rem; border-radius: 50%; background: var(--face); font-weight: 600; font-size: .8rem; }
    .who { display: grid; min-width: 0; } .who span { color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
    .round { width: 2.1rem; height: 2.1rem; border-radius: 50%; padding: 0; background: var(--face); border: 0; font-weight: 600; font-size: .75rem; }
    .menu { position: absolute; right: 0; top: 2.6rem; z-index: 50; min-width: 15rem; padding: .9rem; background: var(--card); border: 1px solid var(--line); border-radius: 12px; box-shadow: 0 12px 40px rgb(0 0 0 / .18); }
    .menu p { margin: 0 0 .6rem; overflow-wrap: anywhere; } .menu button { width: 100%; padding: .45rem; }
    .anchor { position: relative; display: inline-block; } select { padding: .35rem .6rem; max-width: 14rem; } [hidden] { display: none; }
    .wrong { color: #c02626; } :host([theme=dark]) .wrong { color: #ff8d8d; }`;

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  };
  const rootOf = (host) => {
    host.toggleAttribute("data-clerk-component", true);
    host.setAttribute("theme", isDark() ? "dark" : "light");
    const root = host.shadowRoot || host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(SHEET);
    root.adoptedStyleSheets = [sheet];
    root.replaceChildren();
    return root;
  };
  const initials = (name) => name.split(" ").map((part) => part[0]).join("").slice(0, 2);
  const goTo = (url) => { if (url) location.assign(new URL(url, location.href)); };

  class Clerk {
    #listeners = new Set(); #mounted = new Map(); #poller = null; #loading = null; #channel = null;
    constructor() {
      this.publishableKey = KEY; this.frontendApi = new URL(FAPI).host; this.version = "6.0.0-stand-in";
      this.loaded = false; this.status = "loading"; this.client = null; this.session = null; this.user = null;
      this.organization = null; this.membership = null; this.instanceType = "development"; this.isStandardBrowser = true;
    }
    get isSignedIn() { return Boolean(this.session); }

    load(options = {}) { this.options = options; return (this.#loading ||= this.#load()); }
    async #load() {
      await this.#ensureDevBrowser();
      await this.#refresh();
      if (this.session) await this.session.getToken();
      this.#writeState();
      this.loaded = true; this.status = "ready";
      this.#poller = setInterval(() => this.#poll(), POLL_MS);
      for (const name of ["focus", "visibilitychange"]) addEventListener(name, () => this.#poll());
      if ("BroadcastChannel" in window) {
        this.#channel = new BroadcastChannel("clerk");
        this.#channel.onmessage = ({ data }) => { if (data === "signed-out") this.signedOutElsewhere(false); };
      }
      this.#emit();
    }
    async #ensureDevBrowser() {
      const here = new URL(location.href);
      const given = here.searchParams.get(DEV_BROWSER);
      if (given) {
        writeCookie(DEV_BROWSER, given);
        here.searchParams.delete(DEV_BROWSER);
        history.replaceState(history.state, "", here);
      } else if (!readCookie(DEV_BROWSER)) {
        writeCookie(DEV_BROWSER, (await call("/v1/dev_browser", { method: "POST" })).id);
      }
    }
    async #refresh() { this.#accept((await call("/v1/client")).response); }
    #accept(client) {
      this.client = client;
      const said = client && client.sessions.find((each) => each.id === client.last_active_session_id);
      if (!said) { this.session = this.user = this.organization = this.membership = null; return; }
      if (this.session && this.session.id === said.id) this.session.update(said);
      else this.session = new Session(this, said);
      this.user = this.session.user;
      const org = this.session.lastActiveOrganizationId;
      this.membership = this.user.organizationMemberships.find((held) => held.organization.id === org) || null;
      this.organization = this.membership && this.membership.organization;
    }
    #writeState() {
      const seen = this.session && this.client ? Math.floor(this.client.updated_at / 1000) : 0;
      writeCookie("__client_uat", String(seen), "Strict");
      writeCookie("clerk_active_context", this.session ? `${this.session.id}:${this.session.lastActiveOrganizationId || ""}` : "");
      if (!this.session) writeCookie("__session", "");
    }
    async #poll() {
      if (!this.session || document.visibilityState === "hidden") return;
      try { await this.session.getToken(); } catch (error) { /* away for now: the next poll asks again */ }
    }
    #emit() {
      const said = { client: this.client, session: this.session, user: this.user, organization: this.organization };
      for (const listener of this.#listeners) listener(said);
      for (const [host, paint] of this.#mounted) paint(host);
    }
    addListener(listener) {
      this.#listeners.add(listener);
      if (this.client || this.loaded) listener({ client: this.client, session: this.session, user: this.user, organization: this.organization });
      return () => this.#listeners.delete(listener);
    }

    async setActive({ session, organization, redirectUrl, beforeEmit } = {}) {
      if (session === null) return this.signOut({ redirectUrl });
      if (!this.session) return undefined;
      if (organization !== undefined) {
        const wanted = organization === null ? "" : organization.id || organization;
        const answer = await call(`/v1/client/sessions/${this.session.id}/touch`, { method: "POST", form: { active_organization_id: wanted } });
        this.#accept(answer.client);
        this.session.clearCache();
      }
      await this.session.getToken({ skipCache: true });
      this.#writeState();
      if (beforeEmit) await beforeEmit();
      this.#emit();
      goTo(redirectUrl);
      return undefined;
    }
    async signOut(first, second) {
      const options = (typeof first === "function" ? second : first) || {};
      await call("/v1/client/sessions", { method: "DELETE" });
      this.signedOutElsewhere();
      if (typeof first === "function") await first();
      else goTo(options.redirectUrl || this.options.afterSignOutUrl || "/");
    }
    signedOutElsewhere(tell = true) {
      this.#accept(null);
      this.#writeState();
      if (tell && this.#channel) this.#channel.postMessage("signed-out");
      this.#emit();
    }
    async #signInAs(name, redirectUrl) {
      this.#accept((await call("/v1/client/sign_ins", { method: "POST", form: { identifier: name } })).client);
      await this.session.getToken({ skipCache: true });
      this.#writeState();
      this.#emit();
      goTo(redirectUrl);
    }

    buildUrlWithAuth(url) { const made = new URL(url, location.href); made.searchParams.set(DEV_BROWSER, readCookie(DEV_BROWSER)); return made.href; }
    buildSignInUrl({ redirectUrl } = {}) {
      const url = new URL(FAPI + "/sign-in");
      url.searchParams.set("redirect_url", new URL(redirectUrl || location.href, location.href).href);
      url.searchParams.set(DEV_BROWSER, readCookie(DEV_BROWSER));
      return url.href;
    }
    async redirectToSignIn(options = {}) { location.assign(this.buildSignInUrl({ redirectUrl: options.redirectUrl || options.signInForceRedirectUrl || options.signInFallbackRedirectUrl })); }
    async redirectToSignUp(options = {}) { return this.redirectToSignIn(options); }
    openSignIn(options = {}) { return this.redirectToSignIn({ redirectUrl: options.forceRedirectUrl || options.fallbackRedirectUrl }); }

    #mount(host, paint) { this.#mounted.set(host, paint); paint(host); }
    #unmount(host) { this.#mounted.delete(host); if (host.shadowRoot) host.shadowRoot.replaceChildren(); }

    mountSignIn(host, options = {}) {
      const target = options.forceRedirectUrl || options.fallbackRedirectUrl || options.signInForceRedirectUrl || "/";
      this.#mount(host, async () => {
        const root = rootOf(host);
        if (this.session) { root.append(element("div", { className: "card" }, element("h2", { textContent: `Signed in as ${this.user.fullName}` }))); return; }
        const said = await call("/v1/environment");
        const list = element("ul"), wrong = element("p", { className: "wrong", role: "alert" });
        for (const person of said.demo_people) {
          const button = element("button", { className: "person", type: "button" },
            element("span", { className: "face", ariaHidden: "true", textContent: initials(person.full_name) }),
            element("span", { className: "who" }, element("strong", { textContent: person.full_name }),
              element("span", { textContent: person.email }), element("span", { textContent: person.role })));
          button.dataset.person = person.name;
          button.addEventListener("click", () => this.#signInAs(person.name, target).catch((error) => { wrong.textContent = error.message; }));
          list.append(element("li", {}, button));
        }
        root.replaceChildren(element("div", { className: "card" }, element("h2", { textContent: "Sign in" }),
          element("p", { textContent: "Choose who you are in the demo. No password: Clerk is stood in for on this machine." }), wrong, list));
      });
    }
    mountSignUp(host, options) { this.mountSignIn(host, options); }
    mountUserButton(host, options = {}) {
      this.#mount(host, () => {
        const root = rootOf(host);
        if (!this.user) return;
        const menu = element("div", { className: "menu", hidden: true });
        const out = element("button", { type: "button", textContent: "Sign out" });
        out.addEventListener("click", () => this.signOut({ redirectUrl: options.afterSignOutUrl || "/" }));
        menu.append(element("p", { textContent: `${this.user.fullName} (${this.user.primaryEmailAddress.emailAddress})` }), out);
        const button = element("button", { className: "round", type: "button", textContent: initials(this.user.fullName), ariaLabel: `Account of ${this.user.fullName}`, ariaExpanded: "false" });
        const show = (open) => { menu.hidden = !open; button.ariaExpanded = String(open); };
        button.addEventListener("click", () => show(menu.hidden));
        root.addEventListener("keydown", (event) => { if (event.key === "Escape") { show(false); button.focus(); } });
        root.append(element("div", { className: "anchor" }, button, menu));
      });
    }
    mountOrganizationSwitcher(host, options = {}) {
      this.#mount(host, () => {
        const root = rootOf(host);
        if (!this.user) return;
        const choice = element("select", { ariaLabel: "Organisation" });
        if (!options.hidePersonal || !this.organization) choice.append(element("option", { value: "", textContent: options.hidePersonal ? "Choose an organisation" : "Personal account" }));
        for (const held of this.user.organizationMemberships) {
          choice.append(element("option", { value: held.organization.id, textContent: held.organization.name, selected: this.organization && this.organization.id === held.organization.id }));
        }
        choice.addEventListener("change", () => {
          const held = this.user.organizationMemberships.find((each) => each.organization.id === choice.value);
          const after = options.afterSelectOrganizationUrl;
          const url = typeof after === "function" ? held && after(held.organization) : held && after && after.replace(":slug", held.organization.slug).replace(":id", held.organization.id);
          this.setActive({ organization: choice.value || null, redirectUrl: url || undefined });
        });
        root.append(choice);
      });
    }
    mountOrganizationList(host, options) { this.mountOrganizationSwitcher(host, options); }
    mountUserProfile(host) { this.#mount(host, () => { const root = rootOf(host); if (this.user) root.append(element("div", { className: "card" }, element("h2", { textContent: this.user.fullName }), element("p", { textContent: this.user.primaryEmailAddress.emailAddress }))); }); }
    mountOrganizationProfile(host) { this.#mount(host, () => { const root = rootOf(host); if (this.organization) root.append(element("div", { className: "card" }, element("h2", { textContent: this.organization.name }), element("p", { textContent: `Your role: ${this.membership.role}` }))); }); }
    unmountSignIn(host) { this.#unmount(host); } unmountSignUp(host) { this.#unmount(host); } unmountUserButton(host) { this.#unmount(host); }
    unmountOrganizationSwitcher(host) { this.#unmount(host); } unmountOrganizationList(host) { this.#unmount(host); }
    unmountUserProfile(host) { this.#unmount(host); } unmountOrganizationProfile(host) { this.#unmount(host); }
  }

  window.Clerk = new Clerk();
})();
