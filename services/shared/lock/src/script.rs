//! What runs inside of the masters. Each script is one atomic step there.

use std::{sync::LazyLock, time::Duration};

use redis::{FromRedisValue as _, RedisResult, Script, Value, aio::MultiplexedConnection};

/// All of them.
pub(crate) const ALL: &[&LazyLock<Script>] = &[&ACQUIRE, &RAISE, &EXTEND, &RELEASE];

/// Numbers of a script are floating point: tokens beyond this one would lose their last digits. In
/// microseconds it is the year 2255.
pub(crate) const MAX_TOKEN: i64 = (1 << 53) - 1;

/// Takes the lock and counts the fence up, to the master's time at least: after a loss of memory
/// tokens go on rising. The companion key never expires.
static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
             return redis.call('GET', KEYS[1])
         end
         local time = redis.call('TIME')
         local now = time[1] * 1000000 + time[2]
         local fence = tonumber(redis.call('GET', KEYS[2]) or 0)
         fence = math.max(fence + 1, now, tonumber(ARGV[3]))
         redis.call('SET', KEYS[2], string.format('%.0f', fence))
         return fence",
    )
});

static RAISE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(ARGV[1]) then
             redis.call('SET', KEYS[1], ARGV[1])
         end
         return 1",
    )
});

static EXTEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then
             return redis.call('PEXPIRE', KEYS[1], ARGV[2])
         end
         return 0",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then
             return redis.call('DEL', KEYS[1])
         end
         return 0",
    )
});

/// One attempt to hold one user's lock.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    lock: String,
    fence: String,
    /// Unique, and then what for.
    value: String,
    ttl_ms: u64,
}

/// A master's answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Taken, with this token.
    Token(i64),
    /// Held by somebody.
    HeldFor {
        /// What for.
        purpose: String,
    },
}

impl Claim {
    pub(crate) fn new(user: &str, purpose: &str, unique: &uuid::Uuid, ttl: Duration) -> Self {
        Self {
            lock: format!("portolan:lock:{user}"),
            fence: format!("portolan:fence:{user}"),
            value: format!("{}:{purpose}", unique.simple()),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(crate) async fn acquire(
        &self,
        mut on: MultiplexedConnection,
        floor: i64,
    ) -> RedisResult<Answer> {
        let mut call = ACQUIRE.key(&self.lock);
        call.key(&self.fence).arg(&self.value).arg(self.ttl_ms).arg(floor);
        let answer: Value = call.invoke_async(&mut on).await?;
        if let Value::Int(token) = answer {
            return Ok(Answer::Token(token));
        }
        let held = String::from_redis_value(answer)?;
        let purpose = held.split_once(':').map_or("", |(_, purpose)| purpose).to_owned();
        Ok(Answer::HeldFor { purpose })
    }

    /// Makes the fence no smaller than `token`.
    pub(crate) async fn raise(&self, mut on: MultiplexedConnection, token: i64) -> RedisResult<()> {
        RAISE.key(&self.fence).arg(token).invoke_async(&mut on).await
    }

    /// Begins the time to live anew. Returns whether the lock is still this claim's.
    pub(crate) async fn extend(&self, mut on: MultiplexedConnection) -> RedisResult<bool> {
        EXTEND.key(&self.lock).arg(&self.value).arg(self.ttl_ms).invoke_async(&mut on).await
    }

    /// Deletes the lock if it is this claim's.
    pub(crate) async fn release(&self, mut on: MultiplexedConnection) -> RedisResult<bool> {
        RELEASE.key(&self.lock).arg(&self.value).invoke_async(&mut on).await
    }
}
