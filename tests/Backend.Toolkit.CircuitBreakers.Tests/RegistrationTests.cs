using System.Globalization;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

public sealed class RegistrationTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly List<(LogLevel Level, string Message)> _logs = [];

    [Fact]
    public void A_named_circuit_is_a_keyed_singleton_with_the_clock_of_the_container()
    {
        using ServiceProvider provider = Services().AddCircuitBreaker("payments", o => (o.ConsecutiveFailures, o.BreakJitter) = (1, 0)).BuildServiceProvider();

        CircuitBreaker breaker = provider.GetRequiredKeyedService<CircuitBreaker>("payments");
        breaker.Fail();

        breaker.Should().BeSameAs(provider.GetRequiredKeyedService<CircuitBreaker>("payments"));
        breaker.Name.Should().Be("payments");
        _time.Advance(TimeSpan.FromSeconds(5));
        breaker.State.Should().Be(CircuitState.HalfOpen);
    }

    [Fact]
    public void Without_a_name_it_is_a_plain_singleton()
    {
        using ServiceProvider provider = Services().AddCircuitBreaker(o => o.ConsecutiveFailures = 1).BuildServiceProvider();

        CircuitBreaker breaker = provider.GetRequiredService<CircuitBreaker>();
        breaker.Fail();

        breaker.State.Should().Be(CircuitState.Open);
        breaker.Name.Should().Be("default");
    }

    [Fact]
    public void The_container_is_at_hand_when_options_are_set()
    {
        using ServiceProvider provider = Services()
            .AddSingleton("three")
            .AddCircuitBreaker("a", (o, services) => o.ConsecutiveFailures = services.GetRequiredService<string>().Length)
            .AddCircuitBreaker((o, services) => o.ConsecutiveFailures = services.GetRequiredService<string>().Length)
            .AddCircuitBreakerGroup<int>("b", (o, services) => o.ConsecutiveFailures = services.GetRequiredService<string>().Length)
            .AddCircuitBreakerGroup<int>((o, services) => o.ConsecutiveFailures = services.GetRequiredService<string>().Length)
            .BuildServiceProvider();

        CircuitBreaker[] breakers =
        [
            provider.GetRequiredKeyedService<CircuitBreaker>("a"),
            provider.GetRequiredService<CircuitBreaker>(),
            provider.GetRequiredKeyedService<CircuitBreakerGroup<int>>("b").For(1),
            provider.GetRequiredService<CircuitBreakerGroup<int>>().For(1),
        ];

        breakers.Should().AllSatisfy(breaker =>
        {
            breaker.Fail(4);
            breaker.State.Should().Be(CircuitState.Closed);
            breaker.Fail();
            breaker.State.Should().Be(CircuitState.Open);
        });
    }

    [Fact]
    public async Task Bad_options_stop_the_host_with_all_problems_in_one_message()
    {
        using IHost host = new HostBuilder().ConfigureServices(services => services
            .AddCircuitBreaker("payments", o =>
            {
                o.FailureRatio = double.NaN;
                o.MinimumThroughput = 0;
                o.BreakDuration = TimeSpan.FromSeconds(90);
            })).Build();

        OptionsValidationException exception = (await FluentActions.Awaiting(() => host.StartAsync())
            .Should().ThrowAsync<OptionsValidationException>()).Which;

        exception.Failures.Should().Equal(
            "payments: MinimumThroughput must be between 1 and 1000000, but is 0.",
            "payments: FailureRatio must be greater than 0 and at most 1, but is NaN.",
            "payments: MaxBreakDuration must be between BreakDuration (00:01:30) and 1.00:00:00, but is 00:01:00.");
        exception.Message.Should().ContainAll(exception.Failures);
    }

    [Fact]
    public void Every_option_out_of_range_has_its_own_sentence()
    {
        var options = new CircuitBreakerGroupOptions
        {
            Name = "x",
            Window = TimeSpan.Zero,
            MinimumThroughput = -1,
            FailureRatio = 1.01,
            ConsecutiveFailures = 0,
            SlowCallDuration = TimeSpan.MaxValue,
            SlowCallRatio = double.PositiveInfinity,
            BreakDuration = TimeSpan.MinValue,
            BreakGrowth = 0.9,
            MaxBreakDuration = TimeSpan.MaxValue,
            BreakJitter = -0.1,
            ProbeCount = 0,
            ProbeSuccesses = 1001,
            ProbeLease = TimeSpan.Zero,
            Capacity = 0,
        };

        string[] problems = [.. options.Problems()];

        problems.Should().HaveCount(14).And.OnlyContain(problem => problem.StartsWith("x: ", StringComparison.Ordinal));
        FluentActions.Invoking(() => new CircuitBreakerGroup<int>(options)).Should().Throw<OptionsValidationException>().Which.Failures.Should().Equal(problems);
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("ar-SA")]
    [InlineData("tr-TR")]
    public void Sentences_are_the_same_under_any_culture(string culture)
    {
        CultureInfo.CurrentCulture = new CultureInfo(culture);
        var options = new CircuitBreakerOptions { Name = "x", FailureRatio = -1.5 };

        options.Problems().Should().Equal("x: FailureRatio must be greater than 0 and at most 1, but is -1.5.");
        new CircuitOpenException("x", CircuitState.Open, TimeSpan.FromSeconds(1.5)).Message.Should().Be("Circuit 'x' is open; the call was rejected. Retry after 00:00:01.5000000.");
    }

    [Fact]
    public void Options_bind_from_configuration_and_a_reload_reaches_the_live_circuit_with_its_state()
    {
        IConfigurationRoot configuration = Configuration(("Payments:MinimumThroughput", "4"), ("Payments:BreakJitter", "0"));
        using ServiceProvider provider = Bound(configuration);
        CircuitBreaker breaker = provider.GetRequiredKeyedService<CircuitBreaker>("payments");
        breaker.Fail(3);

        configuration["Payments:MinimumThroughput"] = "5";
        configuration.Reload();
        breaker.Fail();
        breaker.State.Should().Be(CircuitState.Closed);
        breaker.Fail();

        breaker.State.Should().Be(CircuitState.Open, "the three failures from before the reload count");
        _logs.Should().NotContain(log => log.Level == LogLevel.Error);
    }

    [Theory]
    [InlineData("Payments:FailureRatio", "7")]
    [InlineData("Payments:Window", "not a time")]
    public void An_invalid_reload_keeps_the_last_good_options_and_logs_one_error(string key, string value)
    {
        IConfigurationRoot configuration = Configuration(("Payments:MinimumThroughput", "4"));
        using ServiceProvider provider = Bound(configuration);
        CircuitBreaker breaker = provider.GetRequiredKeyedService<CircuitBreaker>("payments");

        configuration["Payments:MinimumThroughput"] = "-3";
        configuration[key] = value;
        configuration.Reload();
        configuration.Reload();
        breaker.Fail(4);

        breaker.State.Should().Be(CircuitState.Open);
        (LogLevel _, string message) = _logs.Should().ContainSingle(log => log.Level == LogLevel.Error).Subject;
        message.Should().Contain("payments");
        if (value == "7")
        {
            message.Should().Contain("MinimumThroughput must be").And.Contain("FailureRatio must be");
        }
    }

    [Fact]
    public async Task After_an_invalid_reload_the_service_can_still_be_resolved_for_the_first_time()
    {
        IConfigurationRoot configuration = Configuration(("Payments:MinimumThroughput", "4"));
        using IHost host = new HostBuilder().ConfigureServices(services => Bind(services, configuration)).Build();
        await host.StartAsync();

        configuration["Payments:MinimumThroughput"] = "-3";
        configuration.Reload();
        CircuitBreaker breaker = host.Services.GetRequiredKeyedService<CircuitBreaker>("payments");
        breaker.Fail(4);

        breaker.State.Should().Be(CircuitState.Open);
        configuration["Payments:MinimumThroughput"] = "7";
        configuration.Reload();
        breaker.Reset();
        breaker.Fail(6);
        breaker.State.Should().Be(CircuitState.Closed, "a valid reload after an invalid one is taken");
    }

    [Fact]
    public void A_reload_of_another_name_leaves_this_circuit_alone()
    {
        IConfigurationRoot configuration = Configuration(("Payments:MinimumThroughput", "4"), ("Other:MinimumThroughput", "90"));
        IServiceCollection services = Services().AddCircuitBreaker("other").AddCircuitBreakerGroup<int>("other").AddCircuitBreakerGroup<int>("payments");
        services.AddOptions<CircuitBreakerOptions>("other").BindConfiguration("Other");
        services.AddOptions<CircuitBreakerGroupOptions>("other").BindConfiguration("Other");
        services.AddOptions<CircuitBreakerGroupOptions>("payments").BindConfiguration("Payments");
        Bind(services, configuration);
        using ServiceProvider provider = services.BuildServiceProvider();
        CircuitBreaker breaker = provider.GetRequiredKeyedService<CircuitBreaker>("payments");
        CircuitBreaker ofGroup = provider.GetRequiredKeyedService<CircuitBreakerGroup<int>>("payments").For(1);
        provider.GetRequiredKeyedService<CircuitBreaker>("other").Succeed();
        provider.GetRequiredKeyedService<CircuitBreakerGroup<int>>("other").For(1).Succeed();

        configuration["Other:MinimumThroughput"] = "80";
        configuration.Reload();
        breaker.Fail(4);
        ofGroup.Fail(4);

        breaker.State.Should().Be(CircuitState.Open);
        ofGroup.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void A_validation_of_the_applications_own_is_told_together_with_ours()
    {
        IServiceCollection services = Services().AddCircuitBreaker("payments", o => o.ProbeCount = 0);
        services.AddOptions<CircuitBreakerOptions>("payments").Validate(o => o.MinimumThroughput > 100, "house rule");
        using ServiceProvider provider = services.BuildServiceProvider();

        provider.Invoking(p => p.GetRequiredKeyedService<CircuitBreaker>("payments"))
            .Should().Throw<OptionsValidationException>().Which.Failures.Should().HaveCount(2);
    }

    [Fact]
    public void What_users_code_does_wrong_is_logged()
    {
        using ServiceProvider provider = Services().AddCircuitBreaker("payments", o =>
        {
            o.MinimumThroughput = 4;
            o.BreakDurationFor = n => n == 1 ? TimeSpan.FromHours(1) : TimeSpan.Zero;
        }).BuildServiceProvider();
        CircuitBreaker breaker = provider.GetRequiredKeyedService<CircuitBreaker>("payments");
        breaker.StateChanged += (_, change) => _ = change.Current == CircuitState.Closed ? throw new InvalidOperationException() : 0;

        breaker.Fail(4);
        _time.Advance(TimeSpan.FromHours(1));
        breaker.Enter().Failure();
        breaker.Reset();

        _logs.Select(log => log.Message).Should().Equal(
            "Circuit 'payments' opened for 01:00:00: 0 successes, 4 failures, 0 slow calls in the window.",
            "Circuit 'payments': BreakDurationFor failed or returned 00:00:00; the fixed BreakDuration is used.",
            "Circuit 'payments' re-opened for 00:00:05: its probes did not succeed.",
            "Circuit 'payments' closed.",
            "Circuit 'payments': somebody who was told of a change threw; the circuit is unaffected.");
    }

    [Fact]
    public void A_group_reloads_too()
    {
        IConfigurationRoot configuration = Configuration(("Hosts:MinimumThroughput", "4"));
        IServiceCollection services = Services().AddCircuitBreakerGroup<string>("hosts");
        services.AddOptions<CircuitBreakerGroupOptions>("hosts").BindConfiguration("Hosts");
        using ServiceProvider provider = services.AddSingleton<IConfiguration>(configuration).BuildServiceProvider();
        CircuitBreakerGroup<string> group = provider.GetRequiredKeyedService<CircuitBreakerGroup<string>>("hosts");
        group.For("a").Fail(3);

        configuration["Hosts:MinimumThroughput"] = "10";
        configuration.Reload();
        group.For("a").Fail(6);

        group.For("a").State.Should().Be(CircuitState.Closed);
        group.For("a").Fail();
        group.For("a").State.Should().Be(CircuitState.Open);
        _logs.Should().ContainSingle(log => log.Level == LogLevel.Warning).Which.Message.Should().StartWith("Circuit 'hosts[a]' opened");
    }

    [Fact]
    public void Openings_and_closings_are_logged_for_the_operator()
    {
        using ServiceProvider provider = Services().AddCircuitBreaker("payments", o => (o.MinimumThroughput, o.BreakJitter) = (4, 0)).BuildServiceProvider();
        CircuitBreaker breaker = provider.GetRequiredKeyedService<CircuitBreaker>("payments");

        breaker.Succeed();
        breaker.Fail(3);
        _time.Advance(TimeSpan.FromSeconds(5));
        breaker.Enter().Failure();
        _time.Advance(TimeSpan.FromSeconds(10));
        breaker.Enter().Success();
        breaker.Isolate();

        _logs.Should().Equal(
            (LogLevel.Warning, "Circuit 'payments' opened for 00:00:05: 1 successes, 3 failures, 0 slow calls in the window."),
            (LogLevel.Warning, "Circuit 'payments' re-opened for 00:00:10: its probes did not succeed."),
            (LogLevel.Information, "Circuit 'payments' closed."),
            (LogLevel.Warning, "Circuit 'payments' was isolated; it stays open until it is reset."));
    }

    [Fact]
    public void Bad_arguments_are_refused_at_once()
    {
        IServiceCollection services = new ServiceCollection();

        services.Invoking(s => s.AddCircuitBreaker(" ")).Should().Throw<ArgumentException>().WithParameterName("name");
        services.Invoking(s => s.AddCircuitBreaker((string)null!)).Should().Throw<ArgumentNullException>().WithParameterName("name");
        services.Invoking(s => s.AddCircuitBreaker("a", (Action<CircuitBreakerOptions, IServiceProvider>)null!)).Should().Throw<ArgumentNullException>();
        FluentActions.Invoking(() => ((IServiceCollection)null!).AddCircuitBreaker("a")).Should().Throw<ArgumentNullException>().WithParameterName("services");
        FluentActions.Invoking(() => new CircuitBreaker(null!)).Should().Throw<ArgumentNullException>().WithParameterName("options");
        FluentActions.Invoking(() => new CircuitBreakerOptions().FailOn<int>(null!)).Should().Throw<ArgumentNullException>();
    }

    private static IConfigurationRoot Configuration(params (string Key, string? Value)[] values) =>
        new ConfigurationBuilder().AddInMemoryCollection(values.ToDictionary(v => v.Key, v => v.Value)).Build();

    private IServiceCollection Services() => new ServiceCollection()
        .AddSingleton<TimeProvider>(_time)
        .AddLogging(logging => logging.AddProvider(new ListLoggerProvider(_logs)));

    private ServiceProvider Bound(IConfiguration configuration)
    {
        IServiceCollection services = Services();
        Bind(services, configuration);
        return services.BuildServiceProvider();
    }

    private static void Bind(IServiceCollection services, IConfiguration configuration)
    {
        services.AddSingleton(configuration).AddCircuitBreaker("payments");
        services.AddOptions<CircuitBreakerOptions>("payments").BindConfiguration("Payments");
    }

    private sealed class ListLoggerProvider(List<(LogLevel, string)> logs) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public void Dispose()
        {
        }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            logs.Add((logLevel, formatter(state, exception)));
    }
}
