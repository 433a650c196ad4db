using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Configuration.Memory;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Pagination.Tests;

public sealed class RegistrationTests
{
    private static readonly Keyset<Row> ById = Keyset.For<Row>().Unique(row => row.Id, "id");

    private readonly List<(LogLevel Level, string Message)> _log = [];
    private readonly FakeTimeProvider _time = new();
    private readonly MemoryConfigurationSource _source = new() { InitialData = new Dictionary<string, string?>() };

    [Fact]
    public async Task Unnamed_and_named_paginators_are_singletons_of_their_own()
    {
        using IHost host = Host("Production", services => services
            .AddCursorPagination(o => AddKey(o, 1))
            .AddCursorPagination("orders", o => AddKey(o, 2))
            .AddCursorPagination("plain", (o, provider) =>
            {
                AddKey(o, 3);
                o.DefaultSize = provider.GetServices<IHostEnvironment>().Count();
            })
            .AddSingleton(new object())
            .AddCursorPagination((o, provider) => o.MaxSize = 50));
        await host.StartAsync();

        var plain = host.Services.GetRequiredService<CursorPaginator>();
        var orders = host.Services.GetRequiredKeyedService<CursorPaginator>("orders");

        host.Services.GetRequiredService<CursorPaginator>().Should().BeSameAs(plain);
        host.Services.GetRequiredKeyedService<CursorPaginator>("orders").Should().BeSameAs(orders);
        (plain.Name, orders.Name).Should().Be(("default", "orders"));
        plain.Open(ById, new PageRequest(null, 1000)).Size.Should().Be(50);
        host.Services.GetRequiredKeyedService<CursorPaginator>("plain").Open(ById, new PageRequest()).Size.Should().Be(1);
        orders.Invoking(it => it.Open(ById, new PageRequest(plain.Seal(ById, new Row(), PageDirection.Forward)))).Should().Throw<InvalidCursorException>();
    }

    [Theory]
    [InlineData("Production")]
    [InlineData("Staging")]
    [InlineData("Test")]
    public async Task Without_a_key_a_host_does_not_start(string environment)
    {
        using IHost host = Host(environment, services => services.AddCursorPagination("orders"));

        Func<Task> start = () => host.StartAsync();

        await start.Should().ThrowAsync<OptionsValidationException>().WithMessage(
            "orders: Keys must be at least one key with a secret of 32 random bytes (in Development a random key does: RandomKey), but is empty.");
    }

    [Fact]
    public async Task In_Development_a_random_key_does_with_a_warning()
    {
        using IHost host = Host("Development", services => services.AddCursorPagination("orders").AddCursorPagination("keyed", o => AddKey(o, 1)));
        using IHost other = Host("Development", services => services.AddCursorPagination("orders"));
        await host.StartAsync();
        await other.StartAsync();

        var paginator = host.Services.GetRequiredKeyedService<CursorPaginator>("orders");
        string cursor = paginator.Seal(ById, new Row { Id = 7 }, PageDirection.Forward);
        host.Services.GetRequiredKeyedService<CursorPaginator>("keyed");

        paginator.Open(ById, new PageRequest(cursor)).PositionKey(0).Should().Be(7);
        other.Services.GetRequiredKeyedService<CursorPaginator>("orders").Invoking(it => it.Open(ById, new PageRequest(cursor)))
            .Should().Throw<InvalidCursorException>().Which.Reason.Should().Be(InvalidCursorReason.Altered);
        _log.Where(entry => entry.Level == LogLevel.Warning).Should().HaveCount(2, "each of the two hosts has one").And.OnlyContain(entry => entry.Message.StartsWith("Cursor paginator 'orders' has no keys"));
    }

    [Fact]
    public async Task A_random_key_survives_a_reload()
    {
        using IHost host = Host("Development", services => services.AddCursorPagination("orders").AddOptions<CursorPaginatorOptions>("orders").BindConfiguration("Pages:orders"));
        await host.StartAsync();
        var paginator = host.Services.GetRequiredKeyedService<CursorPaginator>("orders");
        string cursor = paginator.Seal(ById, new Row { Id = 7 }, PageDirection.Forward);

        Reload(host, ("Pages:orders:MaxSize", "30"));

        paginator.Open(ById, new PageRequest(cursor, 100)).Size.Should().Be(30);
    }

    [Fact]
    public async Task Options_bind_from_configuration_keys_and_all()
    {
        Set("Pages:orders:Keys:0:Id", "4");
        Set("Pages:orders:Keys:0:Secret", Convert.ToBase64String(Paginators.Secret(4)));
        Set("Pages:orders:Keys:1:Id", "5");
        Set("Pages:orders:Keys:1:Secret", Convert.ToBase64String(Paginators.Secret(5)));
        Set("Pages:orders:DefaultSize", "7");
        Set("Pages:orders:Expiry", "01:00:00");
        using IHost host = Host("Production", services => services.AddCursorPagination("orders").AddOptions<CursorPaginatorOptions>("orders").BindConfiguration("Pages:orders"));
        await host.StartAsync();
        var paginator = host.Services.GetRequiredKeyedService<CursorPaginator>("orders");
        var old = new CursorPaginatorOptions();
        AddKey(old, 4);

        string cursor = paginator.Seal(ById, new Row { Id = 7 }, PageDirection.Forward);
        _time.Advance(TimeSpan.FromHours(2));

        paginator.Open(ById, new PageRequest(new CursorPaginator(old).Seal(ById, new Row(), PageDirection.Forward))).Size.Should().Be(7);
        paginator.Invoking(it => it.Open(ById, new PageRequest(cursor))).Should().Throw<InvalidCursorException>().Which.Reason.Should().Be(InvalidCursorReason.Expired, "the clock is the container's");
    }

    [Fact]
    public async Task An_invalid_reload_keeps_the_last_good_options_and_logs_one_error()
    {
        Set("Pages:orders:MaxSize", "30");
        using IHost host = Host("Production", services => services.AddCursorPagination("orders", o => AddKey(o, 1)).AddOptions<CursorPaginatorOptions>("orders").BindConfiguration("Pages:orders"));
        await host.StartAsync();
        var paginator = host.Services.GetRequiredKeyedService<CursorPaginator>("orders");

        Reload(host, ("Pages:orders:MaxSize", "0"));
        int kept = paginator.Open(ById, new PageRequest(null, 1000)).Size;
        Reload(host, ("Pages:orders:MaxSize", "40"));

        kept.Should().Be(30);
        paginator.Open(ById, new PageRequest(null, 1000)).Size.Should().Be(40);
        _log.Where(entry => entry.Level == LogLevel.Error).Should().ContainSingle().Which.Message.Should().Contain("orders: MaxSize must be between 1 and 1000000, but is 0.");
    }

    private static void AddKey(CursorPaginatorOptions options, byte id) => options.Keys.Add(new CursorKey(id, Paginators.Secret(id)));

    private void Set(string key, string value) => _source.InitialData = _source.InitialData!.Append(new KeyValuePair<string, string?>(key, value));

    private static void Reload(IHost host, params (string Key, string Value)[] values)
    {
        var root = (IConfigurationRoot)host.Services.GetRequiredService<IConfiguration>();
        foreach ((string key, string value) in values)
        {
            root[key] = value;
        }

        root.Reload();
    }

    private IHost Host(string environment, Action<IServiceCollection> configure)
    {
        HostApplicationBuilder builder = Microsoft.Extensions.Hosting.Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings { EnvironmentName = environment });
        ((IConfigurationBuilder)builder.Configuration).Add(_source);
        builder.Services.AddSingleton<TimeProvider>(_time);
        builder.Logging.AddProvider(new List(_log));
        configure(builder.Services);
        return builder.Build();
    }

    private sealed class List(List<(LogLevel, string)> entries) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public void Dispose()
        {
        }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => entries.Add((logLevel, formatter(state, exception)));
    }
}
