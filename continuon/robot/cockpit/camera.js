// Live camera: the next frame is asked for once the last one is drawn, so a slow link
// gets fewer frames and never old ones.
import { fetchFrame } from "./api.js";

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export function watchCamera(canvas, onFigures) {
  const paint = canvas.getContext("2d", { alpha: false });
  const times = [];
  let after = -1;
  let running = true;

  async function once() {
    const answer = await fetchFrame(after);
    if (!answer.ok) throw new Error(String(answer.status));
    after = Number(answer.headers.get("x-frame"));
    const picture = await createImageBitmap(await answer.blob());
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      canvas.width = picture.width;
      canvas.height = picture.height;
    }
    paint.drawImage(picture, 0, 0);
    picture.close();
    const now = performance.now();
    times.push(now);
    while (times.length > 1 && now - times[0] > 2000) times.shift();
    const fps = times.length > 1 ? ((times.length - 1) * 1000) / (now - times[0]) : null;
    onFigures({ seen: true, fps, ageMs: Number(answer.headers.get("x-age-ms")) });
  }

  (async () => {
    while (running) {
      if (document.hidden) {
        await pause(300);
        continue;
      }
      try {
        await once();
      } catch {
        onFigures({ seen: false });
        // Frames are numbered from a start of the loop: after a restart, begin anew.
        after = -1;
        await pause(700);
      }
    }
  })();
  return () => {
    running = false;
  };
}
