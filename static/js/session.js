/* The session: a Clerk token lives a minute, so it is renewed before each request and once more after a 401.
   Nothing a person has typed is lost: the same request is sent again with the new token, and only if that fails too
   does the page say so, with the form still standing. */
(() => {
  "use strict";
  const RETRIED = new WeakSet();

  const token = () =>
    document.querySelector('input[name="csrf_token"]')?.value || document.querySelector('meta[name="csrf-token"]')?.content || "";

  const renew = async (skipCache) => {
    const clerk = window.Clerk;
    if (!clerk) return false;
    try {
      if (!clerk.loaded) await clerk.load();
      if (!clerk.session) return false;
      return Boolean(await clerk.session.getToken({ skipCache }));
    } catch {
      return false; // Clerk is away: the request says whether the old token still does
    }
  };

  window.addEventListener("load", () => {
    if (window.Clerk && !window.Clerk.loaded) window.Clerk.load().catch(() => undefined);
  });

  document.addEventListener("htmx:confirm", (event) => {
    if (!window.Clerk?.session) return;
    event.preventDefault();
    renew(false).finally(() => event.detail.issueRequest(false));
  });

  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-CSRF-Token"] = token();
  });

  document.addEventListener("htmx:responseError", async (event) => {
    const { xhr, elt } = event.detail;
    if (xhr.status !== 401) return;
    if (!RETRIED.has(elt) && (await renew(true))) {
      RETRIED.add(elt);
      window.htmx.trigger(elt, event.detail.requestConfig?.triggeringEvent?.type || (elt.matches("form") ? "submit" : "click"));
      return;
    }
    document.dispatchEvent(
      new CustomEvent("console:toast", {
        detail: { tone: "bad", message: "You are signed out", note: "What you typed is still here. Sign in again in another tab, then send it once more." },
      }),
    );
  });
  document.addEventListener("htmx:afterOnLoad", (event) => RETRIED.delete(event.detail.elt));

  /* A form that is sent without htmx is renewed too, for the same reason. */
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (form.matches("[data-sign-out]")) {
      if (!window.Clerk?.session) return;
      event.preventDefault();
      // Ours first: the session's id is refused from here on, even where its last token is still fresh.
      await fetch(form.action, { method: "POST", body: new FormData(form), redirect: "manual" }).catch(() => undefined);
      await window.Clerk.signOut({ redirectUrl: "/sign-in?signed_out=" }).catch(() => form.submit());
    }
  });

  /* The page that waits for a session: sign-in, and the step after a lost one. */
  window.addEventListener("load", async () => {
    const mount = document.querySelector("[data-clerk-sign-in]");
    const fallback = document.querySelector("[data-clerk-away]");
    if (!mount) return;
    try {
      if (!window.Clerk) throw new Error("Clerk's script did not load");
      if (!window.Clerk.loaded) {
        await window.Clerk.load(window.__internal_ClerkUICtor ? { ui: { ClerkUI: window.__internal_ClerkUICtor } } : undefined);
      }
      if (window.Clerk.session && (await renew(true))) {
        location.replace(mount.dataset.next);
        return;
      }
      window.Clerk.mountSignIn(mount, { forceRedirectUrl: mount.dataset.next, signUpForceRedirectUrl: mount.dataset.next });
      mount.querySelector("[data-loading]")?.remove();
    } catch {
      mount.hidden = true;
      if (fallback) fallback.hidden = false;
    }
  });

  window.addEventListener("load", async () => {
    const chooser = document.querySelector("[data-clerk-organizations]");
    if (!chooser || !window.Clerk) return;
    if (!window.Clerk.loaded) await window.Clerk.load().catch(() => undefined);
    const memberships = window.Clerk.user?.organizationMemberships || [];
    for (const { organization } of memberships) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button button-wide";
      button.textContent = organization.name;
      button.addEventListener("click", async () => {
        await window.Clerk.setActive({ organization: organization.id });
        location.assign("/");
      });
      chooser.append(button);
    }
    chooser.querySelector("[data-loading]")?.remove();
    const none = document.querySelector("[data-no-organizations]");
    if (none) none.hidden = memberships.length > 0;
  });
})();
