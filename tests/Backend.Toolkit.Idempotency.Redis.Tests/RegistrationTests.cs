using System.Globalization;
using Backend.Toolkit.Tests;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using StackExchange.Redis;
using static Backend.Toolkit.Idempotency.Redis.Tests.Stores;

namespace Backend.Toolkit.Idempotency.Redis.Tests;

public sealed class RegistrationTests(RedisFixture redis) : IClassFixture<RedisFixture>
{
    [Fact]
    public async Task Every_form_gives_a_store_that_keeps_records()
    {
        ServiceCollection services = new();
        services.AddSingleton<IConnectionMultiplexer>(redis.Connection).AddSingleton(new Uri($"prefix:{Guid.NewGuid():N}"));
        services.AddRedisIdempotencyStore(o => o.KeyPrefix = $"{Guid.NewGuid():N}");
        services.AddRedisIdempotencyStore("a", o => o.KeyPrefix = $"{Guid.NewGuid():N}");
        services.AddRedisIdempotencyStore("b", (o, provider) => o.KeyPrefix = provider.GetRequiredService<Uri>().ToString());
        await using ServiceProvider provider = services.BuildServiceProvider();
        ServiceCollection others = new();
        others.AddSingleton<IConnectionMultiplexer>(redis.Connection).AddSingleton(new Uri($"prefix:{Guid.NewGuid():N}"));
        others.AddRedisIdempotencyStore((o, provider) => o.KeyPrefix = provider.GetRequiredService<Uri>().ToString());
        await using ServiceProvider other = others.BuildServiceProvider();
        IdempotencyClaimRequest request = Request();

        foreach (IIdempotencyStore store in new[]
        {
            provider.GetRequiredService<IIdempotencyStore>(), provider.GetRequiredKeyedService<IIdempotencyStore>("a"), provider.GetRequiredKeyedService<IIdempotencyStore>("b"),
            other.GetRequiredService<IIdempotencyStore>(),
        })
        {
            store.Should().BeOfType<RedisIdempotencyStore>();
            (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Started);
            (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
        }

        provider.GetRequiredKeyedService<IIdempotencyStore>("b").As<RedisIdempotencyStore>().KeyPrefix.Should().StartWith("prefix:");
    }

    [Fact]
    public async Task Records_are_in_the_database_that_the_options_name()
    {
        string prefix = $"{Guid.NewGuid():N}:";
        RedisIdempotencyStore store = Make(redis.Connection, o => (o.KeyPrefix, o.Database) = (prefix, 3));
        IdempotencyClaimRequest request = Request();

        await store.BeginAsync(request);

        (await redis.Connection.GetDatabase(3).KeyExistsAsync(prefix + request.Key)).Should().BeTrue();
        (await redis.Connection.GetDatabase(0).KeyExistsAsync(prefix + request.Key)).Should().BeFalse();
    }

    [Fact]
    public async Task Options_that_are_wrong_stop_the_host_and_all_are_told()
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddRedisIdempotencyStore("orders", o =>
        {
            o.KeyPrefix = null!;
            o.Database = -1;
            o.StoreTimeout = TimeSpan.FromHours(1);
            o.Replicas = 101;
            o.ReplicaTimeout = TimeSpan.FromHours(1);
        });
        using IHost host = builder.Build();

        OptionsValidationException problems = (await host.Awaiting(it => it.StartAsync()).Should().ThrowAsync<OptionsValidationException>()).Which;

        problems.Failures.Should().Equal(
            "orders: Connection must be set, or an IConnectionMultiplexer be registered, but is null.",
            "orders: KeyPrefix must be a text, but is null.",
            "orders: Database must be null, or 0 or more, but is -1.",
            "orders: StoreTimeout must be between 00:00:00.0010000 and 00:01:00, but is 01:00:00.",
            "orders: Replicas must be between 0 and 100, but is 101.",
            "orders: ReplicaTimeout must be at least 00:00:00.0010000 and shorter than StoreTimeout (01:00:00), but is 01:00:00.");
    }

    [Theory]
    [InlineData("ar-SA")]
    [InlineData("th-TH")]
    public void Problems_are_told_alike_in_any_culture(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = new CultureInfo(culture);
        try
        {
            new RedisIdempotencyStoreOptions { Replicas = -1234, StoreTimeout = TimeSpan.Zero }.Problems().Should().Equal(
                "RedisIdempotencyStoreOptions: Connection must be set, or an IConnectionMultiplexer be registered, but is null.",
                "RedisIdempotencyStoreOptions: StoreTimeout must be between 00:00:00.0010000 and 00:01:00, but is 00:00:00.",
                "RedisIdempotencyStoreOptions: Replicas must be between 0 and 100, but is -1234.");
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public async Task Options_are_bound_from_configuration_and_reach_the_live_store_unless_they_are_wrong()
    {
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?> { ["Orders:KeyPrefix"] = $"{Guid.NewGuid():N}:", ["Orders:StoreTimeout"] = "00:00:11" }).Build();
        LogList log = new();
        ServiceCollection services = new();
        services.AddSingleton<IConfiguration>(configuration).AddSingleton<IConnectionMultiplexer>(redis.Connection).AddLogging(logging => logging.AddProvider(log));
        services.AddRedisIdempotencyStore("orders");
        services.AddOptions<RedisIdempotencyStoreOptions>("orders").BindConfiguration("Orders");
        await using ServiceProvider provider = services.BuildServiceProvider();
        var store = (RedisIdempotencyStore)provider.GetRequiredKeyedService<IIdempotencyStore>("orders");

        TimeSpan first = store.StoreTimeout;
        IdempotencyClaim claim = await store.BeginAsync(Request());
        configuration["Orders:KeyPrefix"] = "two:";
        configuration["Orders:Database"] = "3";
        configuration["Orders:StoreTimeout"] = "00:00:12";
        configuration.Reload();
        TimeSpan second = store.StoreTimeout;
        bool isWhereItWas = await store.CompleteAsync(claim);
        configuration["Orders:StoreTimeout"] = "00:00:13";
        configuration["Orders:Replicas"] = "-3";
        configuration.Reload();

        (first, second, store.StoreTimeout).Should().Be((TimeSpan.FromSeconds(11), TimeSpan.FromSeconds(12), TimeSpan.FromSeconds(12)));
        isWhereItWas.Should().BeTrue("a run that a reload overtook keeps its record");
        log.Entries.Should().ContainSingle(entry => entry.Level == LogLevel.Error).Which.Message.Should().Contain("'orders'").And.Contain("-3");
    }

    [Fact]
    public async Task A_server_that_evicts_is_told_once()
    {
        await using RedisServer server = await RedisServer.StartAsync("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru");
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        LogList log = new(), silent = new();
        RedisIdempotencyStore store = Make(connection, log: log);

        await store.BeginAsync(Request());
        await store.BeginAsync(Request());
        await RedisServer.WaitUntilAsync(() => log.Entries.Count > 0, "it is told");
        await Make(redis.Connection, log: silent).BeginAsync(Request());

        log.Entries.Should().ContainSingle().Which.Message.Should().Contain("allkeys-lru");
        silent.Entries.Should().BeEmpty();
    }

    [Fact]
    public async Task A_transaction_is_refused()
    {
        RedisIdempotencyStore store = Make(redis.Connection);
        using var database = new Microsoft.Data.Sqlite.SqliteConnection("Data Source=:memory:");
        await database.OpenAsync(TestContext.Current.CancellationToken);
        using var transaction = database.BeginTransaction();
        IdempotencyClaim claim = await store.BeginAsync(Request());

        Func<Task> save = async () => await store.SavePhaseAsync(claim.Key, claim.Fence, "charge", new byte[1], transaction);
        Func<Task> complete = async () => await store.CompleteAsync(claim.Key, claim.Fence, Outcome(), Lease, transaction);

        await save.Should().ThrowAsync<NotSupportedException>();
        await complete.Should().ThrowAsync<NotSupportedException>();
    }
}
