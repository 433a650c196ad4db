using System.Net;
using System.Net.Sockets;
using System.Text;
using Backend.Toolkit.Tests;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;
using static Backend.Toolkit.RateLimiting.Redis.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

/// <summary>The ladder: store, lease, bucket of the node, open or closed. Real servers are killed, paused and started again empty.</summary>
public sealed class OutageTests
{
    [Fact]
    public async Task A_killed_store_is_replaced_by_the_share_of_the_node_and_asked_again_when_it_is_back_empty()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(10, 360_000), o => o.Nodes = () => 2, log: log);
        (await limiter.AcquireDecisionAsync("one", 4)).Remaining.Should().Be(6);

        server.Kill();
        int admitted = 0;
        for (int i = 0; i < 20; i++)
        {
            admitted += (await limiter.AcquireDecisionAsync("one")).IsAdmitted ? 1 : 0;
        }

        RateLimitDecision above = await limiter.AcquireDecisionAsync("one", 6);
        await server.RestartAsync();
        await RedisServer.WaitUntilAsync(() => connection.IsConnected, "the client is connected again");
        await UntilTheStoreDecides(limiter, 10);

        admitted.Should().Be(5);
        (above.IsAdmitted, above.RetryAfter > TimeSpan.Zero).Should().Be((false, true), "more than its share ever admits is refused, since nobody can decide it");
        (await limiter.AcquireDecisionAsync("one", 10)).IsAdmitted.Should().BeTrue("the store came back empty");
        log.Entries.Select(entry => (entry.Level, entry.Id)).Should().Equal((LogLevel.Error, 3), (LogLevel.Information, 4));
    }

    [Fact]
    public async Task A_store_that_hangs_is_skipped_after_three_timeouts_and_probed_by_one_call_a_second()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        FakeTimeProvider time = new();
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(1000, 360_000), o => o.StoreTimeout = TimeSpan.FromMilliseconds(50), time, log);
        await limiter.AcquireDecisionAsync("one");
        long before = await connection.ScriptCallsAsync();

        server.Pause();
        for (int i = 0; i < 3; i++)
        {
            Task<RateLimitDecision> waits = limiter.AcquireDecisionAsync("one").AsTask();
            time.Advance(TimeSpan.FromMilliseconds(49));
            waits.IsCompleted.Should().BeFalse();
            time.Advance(TimeSpan.FromMilliseconds(1));
            (await waits).IsAdmitted.Should().BeTrue("the bucket of this node admits it");
        }

        Task<RateLimitDecision>[] skipped = [.. Enumerable.Range(0, 500).Select(_ => limiter.AcquireDecisionAsync("one").AsTask())];
        skipped.Should().OnlyContain(task => task.IsCompletedSuccessfully, "nobody waits for a store that is skipped");
        time.Advance(TimeSpan.FromSeconds(1));
        Task<RateLimitDecision>[] probing = [.. Enumerable.Range(0, 100).Select(_ => limiter.AcquireDecisionAsync("one").AsTask())];
        probing.Count(task => !task.IsCompleted).Should().Be(1, "one call probes, the others do not wait for it");
        server.Resume();
        await Task.WhenAll(probing);
        await RedisServer.WaitUntilAsync(() => log.Entries.Any(entry => entry.Id == 4), "the probe is answered");
        (await limiter.AcquireDecisionAsync("one")).IsAdmitted.Should().BeTrue();

        (await connection.ScriptCallsAsync() - before).Should().Be(5, "three that were late, the probe, and one afterwards");
        log.Entries.Select(entry => entry.Id).Should().Equal(3, 4);
    }

    [Fact]
    public async Task A_paused_store_costs_three_requests_their_time_and_the_others_nothing()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(10_000, 360_000), o => (o.Nodes, o.StoreTimeout) = (() => 2, TimeSpan.FromMilliseconds(50)));
        await limiter.AcquireDecisionAsync("one");

        server.Pause();
        long start = TimeProvider.System.GetTimestamp();
        for (int i = 0; i < 1000; i++)
        {
            (await limiter.AcquireDecisionAsync("one")).IsAdmitted.Should().BeTrue();
        }

        TimeSpan took = TimeProvider.System.GetElapsedTime(start);
        server.Resume();
        await UntilTheStoreDecides(limiter, 10_000);

        took.Should().BeGreaterThan(TimeSpan.FromMilliseconds(140)).And.BeLessThan(TimeSpan.FromSeconds(2), "a thousand requests at the driver's own timeout would take more than an hour");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Without_a_bucket_of_the_node_it_fails_open_or_closed_as_told(bool open)
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(1, 360_000), o => (o.LocalFallback, o.FailOpen) = (false, open));

        server.Kill();
        RateLimitDecision[] decisions = [.. Enumerable.Range(0, 5).Select(_ => limiter.AcquireDecisionAsync("one").AsTask().Result)];
        RateLimitDecision tooMany = await limiter.AcquireDecisionAsync("one", 2);

        decisions.Should().OnlyContain(decision => decision.IsAdmitted == open && (open || decision.RetryAfter > TimeSpan.Zero));
        (tooMany.IsAdmitted, tooMany.RetryAfter).Should().Be((false, Timeout.InfiniteTimeSpan), "no door is open to more than the limit ever admits");
        limiter.Settle(decisions[0], 0);
    }

    [Fact]
    public async Task A_lease_outlives_the_store()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(100, 360_000), o => (o.LeaseSize, o.LocalFallback) = (10, false));
        await limiter.AcquireDecisionAsync("one");

        server.Kill();
        int admitted = 0;
        for (int i = 0; i < 20; i++)
        {
            admitted += (await limiter.AcquireDecisionAsync("one")).IsAdmitted ? 1 : 0;
        }

        admitted.Should().Be(10);
    }

    [Fact]
    public async Task The_share_of_a_node_follows_the_number_of_nodes_and_a_refund_reaches_it()
    {
        int nodes = 4;
        await using ConnectionMultiplexer connection = await Unreachable();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(100, 360_000), o => o.Nodes = () => nodes);

        RateLimitDecision all = await limiter.AcquireDecisionAsync("one", 25);
        RateLimitDecision refused = await limiter.AcquireDecisionAsync("one", 1);
        limiter.Settle(all, 20);
        bool refunded = (await limiter.AcquireDecisionAsync("one", 5)).IsAdmitted;
        nodes = 2;
        RateLimitDecision more = await limiter.AcquireDecisionAsync("one", 0);
        nodes = 0;
        RateLimitDecision same = await limiter.AcquireDecisionAsync("one", 0);

        (all.IsAdmitted, refused.IsAdmitted, refunded).Should().Be((true, false, true));
        more.Remaining.Should().Be(25, "half of the limit is 50, and 25 are used");
        same.Remaining.Should().Be(25, "no number of nodes is none, so the one before holds");
    }

    [Fact]
    public async Task The_share_of_a_node_is_that_of_the_keys_own_plan()
    {
        await using ConnectionMultiplexer connection = await Unreachable();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(100, 360_000), o =>
        {
            o.Nodes = () => 10;
            o.LimitsFor = key => key == "gold" ? [Per(1000, 360_000)] : null;
        });

        (await limiter.AcquireDecisionAsync("gold")).Remaining.Should().Be(99);
        (await limiter.AcquireDecisionAsync("one")).Remaining.Should().Be(9);
    }

    [Fact]
    public async Task A_store_that_was_never_there_is_not_waited_for()
    {
        await using ConnectionMultiplexer connection = await Unreachable();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(1000, 3600));

        RateLimitDecision[] decisions = await Task.WhenAll(Enumerable.Range(0, 200).Select(_ => limiter.AcquireDecisionAsync("one").AsTask()));

        decisions.Should().OnlyContain(decision => decision.IsAdmitted);
    }

    [Fact]
    public async Task A_connection_that_was_disposed_is_a_store_that_is_down()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        ConnectionMultiplexer connection = await server.ConnectAsync();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(1, 360_000));
        RateLimitDecision charge = await limiter.AcquireDecisionAsync("one");

        await connection.DisposeAsync();
        RateLimitDecision local = await limiter.AcquireDecisionAsync("two");
        limiter.Settle(charge, 0);

        local.IsAdmitted.Should().BeTrue();
        (await limiter.AcquireDecisionAsync("two")).IsAdmitted.Should().BeFalse();
    }

    [Fact]
    public async Task A_replica_that_takes_no_writes_is_a_store_that_is_down()
    {
        await using RedisServer master = await RedisServer.StartAsync();
        await using RedisServer replica = await RedisServer.StartAsync("--replicaof", "127.0.0.1", $"{master.Port}");
        await using ConnectionMultiplexer connection = await replica.ConnectAsync();
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(5, 360_000), log: log);

        RateLimitDecision[] decisions = [.. Enumerable.Range(0, 8).Select(_ => limiter.AcquireDecisionAsync("one").AsTask().Result)];

        decisions.Count(decision => decision.IsAdmitted).Should().Be(5, "the bucket of this node decides");
        log.Entries.Should().ContainSingle().Which.Level.Should().Be(LogLevel.Error);
    }

    [Theory]
    [InlineData("-get")]
    [InlineData("-set")]
    [InlineData("-time")]
    [InlineData("-evalsha")]
    [InlineData("resetkeys")]
    public async Task A_store_that_does_not_let_us_is_a_store_that_is_down(string rule)
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer administrator = await server.ConnectAsync();
        await administrator.GetServers()[0].ExecuteAsync("ACL", "SETUSER", "node", "on", ">secret", "~*", "&*", "+@all", rule);
        await using ConnectionMultiplexer connection = await server.ConnectAsync(",user=node,password=secret");
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(5, 360_000), log: log);

        RateLimitDecision[] decisions = [.. Enumerable.Range(0, 8).Select(_ => limiter.AcquireDecisionAsync("one").AsTask().Result)];

        decisions.Count(decision => decision.IsAdmitted).Should().Be(5, "the bucket of this node decides");
        log.Entries.Should().ContainSingle().Which.Id.Should().Be(3);
    }

    [Fact]
    public async Task In_a_cluster_the_store_is_asked_as_soon_as_it_serves_the_key()
    {
        string configuration = Path.Combine(Path.GetTempPath(), $"{Guid.NewGuid():N}.conf");
        await using RedisServer server = await RedisServer.StartAsync("--cluster-enabled", "yes", "--cluster-config-file", configuration);
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(10, 360_000), o => o.Nodes = () => 2, log: log);

        int[] down = [.. Enumerable.Range(0, 8).Select(_ => limiter.AcquireDecisionAsync("one").AsTask().Result.IsAdmitted ? 1 : 0)];
        await connection.GetServers()[0].ExecuteAsync("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
        await UntilTheStoreDecides(limiter, 10);
        int[] up = [.. Enumerable.Range(0, 12).Select(_ => limiter.AcquireDecisionAsync("one").AsTask().Result.IsAdmitted ? 1 : 0)];
        File.Delete(configuration);

        (down.Sum(), up.Sum()).Should().Be((5, 10));
        log.Entries.Select(entry => entry.Id).Should().Equal(3, 4);
    }

    [Fact]
    public async Task A_look_that_a_store_answers_which_takes_no_writes_ends_no_outage()
    {
        await using RedisServer master = await RedisServer.StartAsync();
        await using RedisServer replica = await RedisServer.StartAsync("--replicaof", "127.0.0.1", $"{master.Port}");
        await using ConnectionMultiplexer connection = await replica.ConnectAsync();
        FakeTimeProvider time = new();
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(100, 360_000), time: time, log: log);

        for (int second = 0; second < 20; second++)
        {
            await limiter.AcquireDecisionAsync("one");
            await limiter.AcquireDecisionAsync("one", 0);
            time.Advance(TimeSpan.FromSeconds(1));
            await limiter.AcquireDecisionAsync("one", 0);
        }

        log.Entries.Should().ContainSingle("it went once, and did not come back").Which.Id.Should().Be(3);
    }

    [Fact]
    public async Task A_store_that_is_full_is_a_store_that_is_down()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(5, 360_000), log: log);

        await connection.GetServers()[0].ConfigSetAsync("maxmemory", "1");
        RateLimitDecision[] decisions = [.. Enumerable.Range(0, 8).Select(_ => limiter.AcquireDecisionAsync("one").AsTask().Result)];
        await connection.GetServers()[0].ConfigSetAsync("maxmemory", "0");
        await RedisServer.WaitUntilAsync(() => limiter.AcquireDecisionAsync("two", 1).AsTask().Result.Remaining >= 0 && log.Entries.Any(entry => entry.Id == 4), "the store is asked again");

        decisions.Count(decision => decision.IsAdmitted).Should().Be(5);
    }

    [Fact]
    public async Task Failures_that_are_not_in_a_row_do_not_add_up()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(100, 360_000), o => o.Nodes = () => 2, log: log);

        List<long> remaining = [];
        for (int i = 0; i < 4; i++)
        {
            await connection.GetServers()[0].ConfigSetAsync("maxmemory", "1");
            await limiter.AcquireDecisionAsync("one");
            await limiter.AcquireDecisionAsync("one");
            await connection.GetServers()[0].ConfigSetAsync("maxmemory", "0");
            remaining.Add((await limiter.AcquireDecisionAsync("one")).Remaining);
        }

        remaining.Should().Equal(99, 98, 97, 96);
        log.Entries.Should().BeEmpty();
    }

    [Fact]
    public async Task Answers_that_make_no_sense_are_a_store_that_is_down()
    {
        using NonsenseServer server = new();
        await using ConnectionMultiplexer connection = await ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{server.Port},abortConnect=false,connectTimeout=2000,$INFO=,$CONFIG=,$CLUSTER=");
        await RedisServer.WaitUntilAsync(() => connection.IsConnected, "the client is connected");
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(5, 360_000), log: log);

        RateLimitDecision[] decisions = [.. Enumerable.Range(0, 8).Select(_ => limiter.AcquireDecisionAsync("one").AsTask().Result)];

        server.Scripts.Should().Be(3, "after three of them it is skipped");
        decisions.Count(decision => decision.IsAdmitted).Should().Be(5);
        log.Entries.Should().ContainSingle().Which.Id.Should().Be(3);
    }

    [Fact]
    public async Task A_slow_network_is_a_store_that_is_down_until_it_is_fast_again()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        using SlowProxy proxy = new(server.Port);
        await using ConnectionMultiplexer connection = await ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{proxy.Port},abortConnect=false");
        await RedisServer.WaitUntilAsync(() => connection.IsConnected, "the client is connected");
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(1000, 3_600_000), o => (o.Nodes, o.StoreTimeout) = (() => 2, TimeSpan.FromMilliseconds(50)), log: log);
        await UntilTheStoreDecides(limiter, 1000);

        proxy.Delay = TimeSpan.FromMilliseconds(300);
        RateLimitDecision[] decisions = [.. Enumerable.Range(0, 20).Select(_ => limiter.AcquireDecisionAsync("one").AsTask().Result)];
        proxy.Delay = TimeSpan.Zero;
        await UntilTheStoreDecides(limiter, 1000);

        decisions.Should().OnlyContain(decision => decision.IsAdmitted);
        decisions[^1].Remaining.Should().Be(480, "the share of the node decides");
        log.Entries.Select(entry => entry.Id).Distinct().Should().Equal(3, 4);
    }

    /// <summary>Asks with one key after another until all but one of its permits are left: the share of a node has fewer.</summary>
    private static Task UntilTheStoreDecides(RedisTokenBucketLimiter<string> limiter, long permits) =>
        RedisServer.WaitUntilAsync(() => limiter.AcquireDecisionAsync(Guid.NewGuid().ToString()).AsTask().Result.Remaining == permits - 1, "the store decides");

    private static Task<ConnectionMultiplexer> Unreachable() =>
        ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{RedisServer.FreePort()},abortConnect=false,connectTimeout=200");

    /// <summary>Greets like Redis, and answers every script with a number.</summary>
    private sealed class NonsenseServer : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private int _scripts;

        public NonsenseServer()
        {
            _listener.Start();
            _ = AcceptAsync();
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        public int Scripts => Volatile.Read(ref _scripts);

        public void Dispose() => _listener.Dispose();

        private async Task AcceptAsync()
        {
            try
            {
                while (true)
                {
                    _ = ServeAsync(await _listener.AcceptTcpClientAsync());
                }
            }
            catch (Exception exception) when (exception is SocketException or ObjectDisposedException)
            {
                // The test is over.
            }
        }

        private async Task ServeAsync(TcpClient client)
        {
            using StreamReader reader = new(client.GetStream(), Encoding.Latin1);
            try
            {
                while (await reader.ReadLineAsync() is { } head)
                {
                    string[] words = new string[int.Parse(head[1..])];
                    for (int i = 0; i < words.Length; i++)
                    {
                        int length = int.Parse((await reader.ReadLineAsync())![1..]);
                        char[] word = new char[length + 2];
                        await reader.ReadBlockAsync(word);
                        words[i] = new string(word, 0, length);
                    }

                    string name = words[0].ToUpperInvariant();
                    if (name is "EVAL" or "EVALSHA")
                    {
                        Interlocked.Increment(ref _scripts);
                    }

                    string answer = name switch
                    {
                        "ECHO" => $"${words[1].Length}\r\n{words[1]}\r\n",
                        "PING" => "+PONG\r\n",
                        "SCRIPT" => "$40\r\n0123456789012345678901234567890123456789\r\n",
                        "EVAL" or "EVALSHA" => ":42\r\n",
                        "HELLO" => "-ERR unknown command 'HELLO'\r\n",
                        _ => "+OK\r\n",
                    };
                    await client.GetStream().WriteAsync(Encoding.Latin1.GetBytes(answer));
                }
            }
            catch (IOException)
            {
                // The client has gone.
            }
        }
    }

    /// <summary>Passes bytes on, what comes back with a delay.</summary>
    private sealed class SlowProxy : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private long _delay;

        public SlowProxy(int target)
        {
            _listener.Start();
            _ = AcceptAsync(target);
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        public TimeSpan Delay
        {
            get => new(Volatile.Read(ref _delay));
            set => Volatile.Write(ref _delay, value.Ticks);
        }

        public void Dispose() => _listener.Dispose();

        private async Task AcceptAsync(int target)
        {
            try
            {
                while (true)
                {
                    TcpClient near = await _listener.AcceptTcpClientAsync();
                    TcpClient far = new();
                    await far.ConnectAsync(IPAddress.Loopback, target);
                    _ = PassAsync(near, far, isSlow: false);
                    _ = PassAsync(far, near, isSlow: true);
                }
            }
            catch (Exception exception) when (exception is SocketException or ObjectDisposedException)
            {
                // The test is over.
            }
        }

        private async Task PassAsync(TcpClient from, TcpClient to, bool isSlow)
        {
            byte[] buffer = new byte[16_384];
            try
            {
                for (int read; (read = await from.GetStream().ReadAsync(buffer)) > 0;)
                {
                    if (isSlow && Delay > TimeSpan.Zero)
                    {
                        await Task.Delay(Delay, TimeProvider.System);
                    }

                    await to.GetStream().WriteAsync(buffer.AsMemory(0, read));
                }
            }
            catch (Exception exception) when (exception is IOException or ObjectDisposedException)
            {
                // One side has gone.
            }

            from.Dispose();
            to.Dispose();
        }
    }
}
