using System.Globalization;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Npgsql;
using static Backend.Toolkit.Idempotency.PostgreSql.Tests.Stores;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

public sealed class RegistrationTests(Database database)
{
    [Fact]
    public async Task Every_form_gives_a_store_that_its_executor_takes()
    {
        ServiceCollection services = new();
        services.AddSingleton(database.Source).AddSingleton("b_" + NewTable());
        services.AddPostgreSqlIdempotencyStore(o => o.Table = NewTable());
        services.AddPostgreSqlIdempotencyStore("a", o => (o.DataSource, o.ConnectionString, o.Table) = (null, database.ConnectionString, NewTable()));
        services.AddPostgreSqlIdempotencyStore("b", (o, provider) => o.Table = provider.GetRequiredService<string>());
        services.AddIdempotency().AddIdempotency("a").AddIdempotency("b").AddIdempotency("c");
        await using ServiceProvider provider = services.BuildServiceProvider();

        foreach (string? name in new[] { null, "a", "b", "c" })
        {
            IdempotentExecutor executor = name is null ? provider.GetRequiredService<IdempotentExecutor>() : provider.GetRequiredKeyedService<IdempotentExecutor>(name);
            string first = await executor.ExecuteAsync("key", Content, (_, _) => new ValueTask<string>(Guid.NewGuid().ToString()), StringJson.Default.String);
            string second = await executor.ExecuteAsync("key", Content, (_, _) => new ValueTask<string>("twice"), StringJson.Default.String);
            second.Should().Be(first);
            executor.Store.Should().BeOfType<PostgreSqlIdempotencyStore>().Which.Name.Should().Be(name is "a" or "b" ? name : "default");
        }

        (await ScalarAsync<long>(database.Source, $"SELECT count(*) FROM {provider.GetRequiredService<string>()}")).Should().Be(1);
    }

    [Fact]
    public async Task The_form_with_the_container_and_without_a_name_gives_the_plain_store_and_the_first_one_stays()
    {
        ServiceCollection services = new();
        services.AddSingleton(database.Source);
        services.AddPostgreSqlIdempotencyStore((o, provider) => o.Schema = provider.GetRequiredService<NpgsqlDataSource>() is null ? "" : "public");
        services.AddMemoryIdempotencyStore();
        await using ServiceProvider provider = services.BuildServiceProvider();

        IIdempotencyStore store = provider.GetRequiredService<IIdempotencyStore>();

        store.Should().BeOfType<PostgreSqlIdempotencyStore>();
    }

    [Fact]
    public async Task A_data_source_of_the_stores_own_can_ask_for_an_encrypted_connection()
    {
        await using var store = new PostgreSqlIdempotencyStore(new PostgreSqlIdempotencyStoreOptions { ConnectionString = $"{database.ConnectionString};SSL Mode=Require", Table = NewTable() });

        Func<Task> begin = async () => await store.BeginAsync(Request());

        await begin.Should().ThrowAsync<IdempotencyStoreException>("the server of the tests has no certificate").WithMessage("*SSL connection requested*");
    }

    [Fact]
    public async Task Options_that_are_wrong_stop_the_host_and_all_are_told_without_the_password()
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddPostgreSqlIdempotencyStore("orders", o =>
        {
            o.ConnectionString = "Password=secret;Nonsense=1";
            o.Schema = "A";
            o.Table = new string('a', 51);
            o.CleanupInterval = TimeSpan.FromMilliseconds(1);
            o.CleanupBatch = 0;
        });
        builder.Services.AddPostgreSqlIdempotencyStore("empty");
        using IHost host = builder.Build();

        string[] failures = [.. (await host.Awaiting(it => it.StartAsync()).Should().ThrowAsync<AggregateException>()).Which.InnerExceptions.Cast<OptionsValidationException>().SelectMany(it => it.Failures)];

        failures.Should().Equal(
            "orders: ConnectionString must be one that Npgsql reads, such as 'Host=localhost;Database=shop', but is not.",
            "orders: Schema must be 1 to 63 letters (a to z), digits and underscores, no digit first, but is 'A'.",
            $"orders: Table must be 1 to 50 letters (a to z), digits and underscores, no digit first, but is '{new string('a', 51)}'.",
            "orders: CleanupInterval must be between 00:00:01 and 1.00:00:00, or infinite, but is 00:00:00.0010000.",
            "orders: CleanupBatch must be between 1 and 100000, but is 0.",
            "empty: DataSource or ConnectionString must be set, one of the two, or an NpgsqlDataSource be registered, but is neither.");
    }

    [Theory]
    [InlineData("ar-SA")]
    [InlineData("th-TH")]
    public async Task Problems_are_told_and_durations_sent_alike_in_any_culture(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = new CultureInfo(culture);
        try
        {
            new PostgreSqlIdempotencyStoreOptions { ConnectionString = "Host=a", CleanupBatch = -1234 }.Problems().Should().Equal("PostgreSqlIdempotencyStoreOptions: CleanupBatch must be between 1 and 100000, but is -1234.");
            await using PostgreSqlIdempotencyStore store = database.CreateStore();
            (await store.BeginAsync(Request(previous: Digest()))).Status.Should().Be(IdempotencyClaimStatus.Started);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public async Task Options_are_bound_from_configuration_and_reloaded_and_a_bad_reload_keeps_the_last_good_ones()
    {
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["Store:ConnectionString"] = database.ConnectionString,
            ["Store:Table"] = NewTable(),
            ["Store:CleanupBatch"] = "5",
            ["Store:CleanupInterval"] = "01:00:00",
        }).Build();
        var log = new LogList();
        ServiceCollection services = new();
        services.AddSingleton<IConfiguration>(configuration).AddSingleton(database.Source).AddLogging(logging => logging.AddProvider(log));
        services.AddPostgreSqlIdempotencyStore("orders");
        services.AddOptions<PostgreSqlIdempotencyStoreOptions>("orders").BindConfiguration("Store");
        await using ServiceProvider provider = services.BuildServiceProvider();
        var store = (PostgreSqlIdempotencyStore)provider.GetRequiredKeyedService<IIdempotencyStore>("orders");
        IdempotencyClaimRequest request = Request();
        await store.BeginAsync(request);

        configuration["Store:Prepare"] = "false";
        configuration["Store:Table"] = NewTable();
        configuration.Reload();
        IdempotencyClaim sameTable = await store.BeginAsync(request);
        configuration["Store:CleanupBatch"] = "-3";
        configuration.Reload();
        IdempotencyClaim still = await store.BeginAsync(request);

        (sameTable.Status, still.Status).Should().Be((IdempotencyClaimStatus.InProgress, IdempotencyClaimStatus.InProgress));
        log.Entries.Should().ContainSingle(entry => entry.Level == LogLevel.Error).Which.Message.Should().Contain("'orders'").And.Contain("-3");
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void Multiplexing_takes_neither_listening_nor_prepared_statements(bool listen, bool prepare)
    {
        using NpgsqlDataSource source = NpgsqlDataSource.Create("Host=localhost;Multiplexing=true");
        var options = new PostgreSqlIdempotencyStoreOptions { Name = "orders", DataSource = source, Listen = listen, Prepare = prepare };
        const string Problem = "orders: Listen and Prepare must be false with Multiplexing=true, where no statement has a connection of its own, but is not.";

        string[] problems = [.. options.Problems()];
        (options.DataSource, options.ConnectionString) = (null, source.ConnectionString);
        string[] own = [.. options.Problems()];

        problems.Should().Equal(Problem);
        own.Should().Equal(Problem);
    }

    [Fact]
    public async Task Without_listening_and_preparing_all_works_with_multiplexing()
    {
        await using NpgsqlDataSource source = NpgsqlDataSource.Create($"{database.ConnectionString};Multiplexing=true");
        await using PostgreSqlIdempotencyStore store = Create(source, o => (o.Listen, o.Prepare) = (false, false));
        IdempotencyClaimRequest request = Request(previous: Digest());

        IdempotencyClaim claim = await store.BeginAsync(request);
        Task wait = store.WaitAsync(claim.Key, claim.Fence, Patience).AsTask();
        bool completed = await store.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention);
        await wait;

        completed.Should().BeTrue();
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);
    }
}
