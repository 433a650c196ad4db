using System.Globalization;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using static Backend.Toolkit.Idempotency.Sqlite.Tests.Database;

namespace Backend.Toolkit.Idempotency.Sqlite.Tests;

public sealed class RegistrationTests : IAsyncDisposable
{
    private readonly Database _database = new();

    public ValueTask DisposeAsync() => _database.DisposeAsync();

    [Fact]
    public async Task Every_form_gives_a_store_that_keeps_records()
    {
        string connectionString = _database.ConnectionString;
        ServiceCollection services = new(), others = new();
        services.AddSingleton(new Uri("table:b"));
        services.AddSqliteIdempotencyStore(o => o.ConnectionString = connectionString);
        services.AddSqliteIdempotencyStore("a", o => (o.ConnectionString, o.Table) = (connectionString, "a"));
        services.AddSqliteIdempotencyStore("b", (o, provider) => (o.ConnectionString, o.Table) = (connectionString, provider.GetRequiredService<Uri>().AbsolutePath));
        others.AddSingleton(new Uri("table:c"));
        others.AddSqliteIdempotencyStore((o, provider) => (o.ConnectionString, o.Table) = (connectionString, provider.GetRequiredService<Uri>().AbsolutePath));
        await using ServiceProvider provider = services.BuildServiceProvider(), other = others.BuildServiceProvider();
        IdempotencyClaimRequest request = Request();

        foreach (IIdempotencyStore store in new[]
        {
            provider.GetRequiredService<IIdempotencyStore>(), provider.GetRequiredKeyedService<IIdempotencyStore>("a"), provider.GetRequiredKeyedService<IIdempotencyStore>("b"),
            other.GetRequiredService<IIdempotencyStore>(),
        })
        {
            (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Started);
            (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
        }

        provider.GetRequiredKeyedService<IIdempotencyStore>("b").Should().BeOfType<SqliteIdempotencyStore>().Which.Name.Should().Be("b");
        provider.GetRequiredService<IIdempotencyStore>().Should().BeOfType<SqliteIdempotencyStore>().Which.Name.Should().Be("default");
        new[] { "a", "b", "c", "idempotency" }.Should().OnlyContain(table => _database.Count(table) == 1);
    }

    [Fact]
    public async Task Options_that_are_wrong_stop_the_host_and_all_are_told()
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddSqliteIdempotencyStore("orders", o =>
        {
            o.Table = "Orders; DROP";
            o.BusyTimeout = TimeSpan.FromHours(1);
            o.CleanupInterval = TimeSpan.Zero;
            o.CleanupBatch = 0;
        });
        using IHost host = builder.Build();

        OptionsValidationException problems = (await host.Awaiting(it => it.StartAsync()).Should().ThrowAsync<OptionsValidationException>()).Which;

        problems.Failures.Should().Equal(
            "orders: ConnectionString must be set, such as 'Data Source=shop.db', but is not.",
            "orders: Table must be 1 to 50 letters (a to z), digits and underscores, no digit first, but is 'Orders; DROP'.",
            "orders: BusyTimeout must be between 00:00:00.0010000 and 00:01:00, but is 01:00:00.",
            "orders: CleanupInterval must be between 00:00:01 and 1.00:00:00, or infinite, but is 00:00:00.",
            "orders: CleanupBatch must be between 1 and 100000, but is 0.");
    }

    [Theory]
    [InlineData("Data Source=:memory:")]
    [InlineData("Data Source=")]
    [InlineData("Mode=Memory")]
    [InlineData("Data Source=shared;Mode=Memory;Cache=Shared")]
    [InlineData("Data Source=file:shared?mode=memory&cache=shared")]
    public void A_database_in_memory_is_refused(string connectionString)
    {
        var options = new SqliteIdempotencyStoreOptions { ConnectionString = connectionString };

        options.Problems().Should().ContainSingle().Which.Should().Contain("in memory");
        ((Func<object>)(() => new SqliteIdempotencyStore(options))).Should().Throw<OptionsValidationException>();
    }

    [Fact]
    public void A_shared_cache_that_the_store_cannot_turn_off_is_refused()
    {
        var options = new SqliteIdempotencyStoreOptions { Name = "orders", ConnectionString = "Data Source=file:shop.db?cache=shared" };

        options.Problems().Should().Equal("orders: ConnectionString must be without cache=shared in the URI, where who reads is refused what another is writing, but is with it.");
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
            new SqliteIdempotencyStoreOptions { ConnectionString = "nonsense", CleanupBatch = -1234 }.Problems().Should().Equal(
                "SqliteIdempotencyStoreOptions: ConnectionString must be one that Microsoft.Data.Sqlite reads, such as 'Data Source=shop.db', but is not.",
                "SqliteIdempotencyStoreOptions: CleanupBatch must be between 1 and 100000, but is -1234.");
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public async Task Options_are_bound_from_configuration_and_reach_the_live_store_unless_they_are_wrong()
    {
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["Orders:ConnectionString"] = _database.ConnectionString,
            ["Orders:BusyTimeout"] = "00:00:30",
        }).Build();
        LogList log = new();
        ServiceCollection services = new();
        services.AddSingleton<IConfiguration>(configuration).AddLogging(logging => logging.AddProvider(log));
        services.AddSqliteIdempotencyStore("orders");
        services.AddOptions<SqliteIdempotencyStoreOptions>("orders").BindConfiguration("Orders");
        await using ServiceProvider provider = services.BuildServiceProvider();
        var store = (SqliteIdempotencyStore)provider.GetRequiredKeyedService<IIdempotencyStore>("orders");
        await store.BeginAsync(Request());
        await using var holder = _database.Connect();
        await using var transaction = await store.BeginTransactionAsync(holder, Lease);

        configuration["Orders:BusyTimeout"] = "00:00:00.010";
        configuration.Reload();
        Func<Task> begin = async () => await store.BeginAsync(Request());
        await begin.Should().ThrowAsync<IdempotencyStoreException>("it waits 10 ms now");
        configuration["Orders:BusyTimeout"] = "-00:00:03";
        configuration.Reload();

        await begin.Should().ThrowAsync<IdempotencyStoreException>("the last good options hold");
        log.Entries.Should().ContainSingle(entry => entry.Level == LogLevel.Error).Which.Message.Should().Contain("'orders'").And.Contain("-00:00:03");
    }
}
