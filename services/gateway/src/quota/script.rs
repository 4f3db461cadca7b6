//! What runs inside of the server: one atomic step.

use std::{sync::LazyLock, time::Duration};

use redis::{RedisResult, Script, aio::MultiplexedConnection};

use crate::rate::{Rate, Verdict};

pub(super) const ALL: &[&LazyLock<Script>] = &[&TAKE];

/// A token bucket as one number: when it will be full again, in microseconds of the server's time,
/// so that no gateway's clock matters. Every take moves that by one step, as far as the bucket is
/// deep, and when it is full the key is gone. A moment further away than that was written before
/// the clock was put back: the bucket is empty then. Returns how long to wait, in microseconds, and
/// how many are left. All numbers are whole and far below 2^53, as Lua's must be.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000000 + time[2]
         local step = tonumber(ARGV[2])
         local deep = tonumber(ARGV[1]) * step
         local stored = tonumber(redis.call('GET', KEYS[1]) or now)
         local full = math.min(math.max(stored, now), now + deep)
         local wait = math.max(full + step - now - deep, 0)
         if wait == 0 then
             full = full + step
         end
         if full ~= stored then
             local ttl = math.ceil((full - now) / 1000)
             redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', ttl)
         end
         return {wait, math.floor((now + deep - full) / step)}",
    )
});

/// Takes one from the bucket of that key.
pub(super) async fn take(
    mut on: MultiplexedConnection,
    key: String,
    rate: Rate,
) -> RedisResult<Verdict> {
    let step = u64::try_from(rate.step().as_micros()).unwrap_or(u64::MAX);
    let mut call = TAKE.key(key);
    call.arg(rate.requests).arg(step);
    let (wait, remaining): (u64, u32) = call.invoke_async(&mut on).await?;
    Ok(match wait {
        0 => Verdict::Admitted { remaining },
        micros => Verdict::Refused { wait: Duration::from_micros(micros) },
    })
}
