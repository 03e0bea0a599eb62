// What is marked data-live is renewed from the page's own address every
// data-refresh seconds, so that the server makes all HTML. A page that nobody
// looks at, or in which somebody is busy, is left alone.
"use strict";

(() => {
	const seconds = Number(document.body.dataset.refresh || 0);
	const button = document.getElementById("pause");
	let paused = false;

	const busy = (part) => part.contains(document.activeElement) && document.activeElement !== document.body
		|| part.querySelector("details[open]") !== null;

	const renew = async () => {
		const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
		if (!answer.ok) throw new Error(`status ${answer.status}`);
		const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
		for (const part of document.querySelectorAll("[data-live]")) {
			const other = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
			if (other && !busy(part)) part.replaceWith(document.adoptNode(other));
		}
		const time = fresh.querySelector("footer time");
		if (time) document.querySelector("footer time").replaceWith(document.adoptNode(time));
		return "refresh" in fresh.body.dataset;
	};

	const loop = async () => {
		let again = true, wait = seconds;
		try {
			if (!paused && !document.hidden) again = await renew();
			wait = seconds;
		} catch {
			wait = Math.min(wait * 2, 60); // the console is away; the page stays as it was
		}
		if (again) setTimeout(loop, wait * 1000);
	};

	if (seconds > 0) {
		button.hidden = false;
		button.addEventListener("click", () => {
			paused = !paused;
			button.setAttribute("aria-pressed", String(paused));
			button.textContent = paused ? "Resume updates" : "Pause updates";
		});
		setTimeout(loop, seconds * 1000);
	}
})();

// The live tail: rows come as HTML that the server has made and escaped.
(() => {
	const rows = document.getElementById("tail");
	if (!rows) return;
	const state = document.getElementById("tail-state");
	const most = 500;
	const events = new EventSource(rows.dataset.tail);
	events.onopen = () => { state.textContent = "Waiting for events …"; };
	events.onmessage = (message) => {
		const made = document.createElement("template");
		made.innerHTML = message.data;
		rows.prepend(made.content);
		while (rows.children.length > most) rows.lastElementChild.remove();
		state.textContent = "Following.";
	};
	events.addEventListener("over", (message) => {
		events.close();
		state.textContent = `Ended: ${message.data}`;
	});
	events.onerror = () => { state.textContent = "The connection is gone; trying again …"; };
})();
