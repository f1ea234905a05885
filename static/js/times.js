/* Relative times grow old on an open page: say them anew each half minute, in the words the server uses. */
(() => {
  "use strict";
  const STEPS = [
    [60, 1, "second"],
    [3600, 60, "minute"],
    [86400, 3600, "hour"],
    [86400 * 30, 86400, "day"],
    [86400 * 365, 86400 * 30, "month"],
    [Infinity, 86400 * 365, "year"],
  ];
  const relative = (at) => {
    const seconds = (Date.now() - at) / 1000;
    const size = Math.abs(seconds);
    if (size < 10) return "just now";
    const [, unit, word] = STEPS.find(([limit]) => size < limit);
    const count = Math.floor(size / unit);
    const words = `${count} ${word}${count === 1 ? "" : "s"}`;
    return seconds < 0 ? `in ${words}` : `${words} ago`;
  };
  setInterval(() => {
    for (const time of document.querySelectorAll("time[datetime][title]")) time.textContent = relative(Date.parse(time.dateTime));
  }, 30000);
})();
