using System.Net;
using Backend.Toolkit.CircuitBreakers;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Http.Tests;

public sealed class RegistrationTests
{
    private readonly WaitTime _time = new() { PassesAtOnce = true };
    private readonly LogList _logs = new();
    private readonly Server _server = new();

    [Fact]
    public async Task A_client_gets_the_handler_with_its_defaults_and_the_clock_of_the_container()
    {
        await using ServiceProvider provider = Services(builder => builder.AddOutboundPolicy());
        _server.Answers(503, 503, 200);

        using HttpResponseMessage response = await Client(provider).GetAsync(Outbound.Url);

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        _server.Arrivals.Select(arrival => arrival.Header("Timeout-Budget")).First().Should().Be("9990");
        _time.Waits.Should().HaveCount(2);
    }

    [Fact]
    public async Task The_policy_is_a_singleton_keyed_by_the_clients_name()
    {
        await using ServiceProvider provider = Services(builder => builder.AddOutboundPolicy());

        OutboundPolicy policy = provider.GetRequiredKeyedService<OutboundPolicy>("payments");
        using HttpResponseMessage response = await Client(provider).GetAsync(Outbound.Url);

        policy.Name.Should().Be("payments");
        policy.Should().BeSameAs(provider.GetRequiredKeyedService<OutboundPolicy>("payments"));
        policy.CircuitBreakers.Snapshot().Should().ContainSingle();
    }

    [Fact]
    public async Task The_container_is_at_hand_when_options_are_set()
    {
        await using ServiceProvider provider = Services(builder =>
        {
            builder.Services.AddSingleton("two");
            builder.AddOutboundPolicy((options, services) => options.Retry!.MaxAttempts = services.GetRequiredService<string>().Length + 2);
        });
        _server.Answers(503);

        using HttpResponseMessage response = await Client(provider).GetAsync(Outbound.Url);

        _server.Count.Should().Be(5);
    }

    [Fact]
    public async Task A_second_call_adds_to_the_options_and_not_a_second_handler()
    {
        await using ServiceProvider provider = Services(builder => builder
            .AddOutboundPolicy(options => (options.Retry!.MaxAttempts, options.NetworkAllowance) = (4, TimeSpan.Zero))
            .AddOutboundPolicy(options => options.Retry!.MaxAttempts = 2));
        _server.Answers(503);

        using HttpResponseMessage response = await Client(provider).GetAsync(Outbound.Url);

        _server.Arrivals.Should().HaveCount(2).And.OnlyContain(arrival => arrival.Header("Timeout-Budget") == "10000" || arrival.Header("Retry-Attempt") == "2");
    }

    [Fact]
    public async Task Two_clients_have_policies_of_their_own()
    {
        await using ServiceProvider provider = Services(builder =>
        {
            builder.AddOutboundPolicy(options => options.Retry!.MaxAttempts = 2);
            builder.Services.AddHttpClient("stock").ConfigurePrimaryHttpMessageHandler(() => _server).AddOutboundPolicy();
        });
        provider.GetRequiredKeyedService<OutboundPolicy>("payments").CircuitBreakers.For(new HttpAuthority("http", "payments", 80)).Isolate();

        using HttpResponseMessage response = await provider.GetRequiredService<IHttpClientFactory>().CreateClient("stock").GetAsync(Outbound.Url);

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        await FluentActions.Awaiting(() => Client(provider).GetAsync(Outbound.Url)).Should().ThrowAsync<CircuitOpenException>();
    }

    [Theory]
    [InlineData(null, -1)]
    [InlineData(100d, -1)]
    [InlineData(7d, 7_000)]
    [InlineData(101d, 101_000)]
    public async Task Only_a_client_timeout_that_nobody_chose_becomes_infinite(double? seconds, int milliseconds)
    {
        await using ServiceProvider provider = Services(builder =>
        {
            builder.AddOutboundPolicy();
            if (seconds is { } chosen)
            {
                // After the policy: the order must not matter.
                builder.ConfigureHttpClient(client => client.Timeout = TimeSpan.FromSeconds(chosen));
            }
        });

        Client(provider).Timeout.Should().Be(TimeSpan.FromMilliseconds(milliseconds));
    }

    [Fact]
    public async Task Options_bind_from_configuration_under_the_clients_name_and_a_reload_keeps_the_circuits()
    {
        IConfigurationRoot configuration = Configuration(("Payments:Retry:MaxAttempts", "2"), ("Payments:Attempt:Total", "00:00:04"));
        await using ServiceProvider provider = Bound(configuration);
        _server.Answers(503);
        using HttpResponseMessage first = await Client(provider).GetAsync(Outbound.Url);
        OutboundPolicy policy = provider.GetRequiredKeyedService<OutboundPolicy>("payments");
        long failures = policy.CircuitBreakers.Snapshot().Single().Failures;
        double tokens = policy.RetryBudget.Tokens;

        configuration["Payments:Retry:MaxAttempts"] = "1";
        configuration["Payments:Attempt:Total"] = "00:00:06";
        configuration.Reload();
        double tokensAfter = policy.RetryBudget.Tokens;
        using HttpResponseMessage second = await Client(provider).GetAsync(Outbound.Url);

        _server.Arrivals.Select(arrival => arrival.Header("Timeout-Budget")).Should().Equal("3990", "3990", "5990");
        (failures, tokensAfter).Should().Be((2, tokens));
        policy.CircuitBreakers.Snapshot().Single().Failures.Should().Be(3);
    }

    [Fact]
    public async Task An_invalid_reload_keeps_the_last_good_options_and_logs_one_error()
    {
        IConfigurationRoot configuration = Configuration(("Payments:Retry:MaxAttempts", "2"));
        await using ServiceProvider provider = Bound(configuration);
        _ = provider.GetRequiredKeyedService<OutboundPolicy>("payments");
        _server.Answers(503);

        configuration["Payments:Retry:MaxAttempts"] = "0";
        configuration["Payments:NetworkAllowance"] = "-00:00:01";
        configuration.Reload();
        configuration.Reload();
        using HttpResponseMessage response = await Client(provider).GetAsync(Outbound.Url);

        _server.Count.Should().Be(2);
        string text = _logs.Entries.Should().ContainSingle(entry => entry.Level == LogLevel.Error).Which.Text;
        text.Should().Contain("'payments'").And.Contain("MaxAttempts must be").And.Contain("NetworkAllowance must be");
        configuration["Payments:Retry:MaxAttempts"] = "1";
        configuration["Payments:NetworkAllowance"] = "00:00:01";
        configuration.Reload();
        using HttpResponseMessage after = await Client(provider).GetAsync(Outbound.Url);
        _server.Count.Should().Be(3, "a valid reload after an invalid one is taken");
    }

    [Fact]
    public async Task Bad_options_stop_the_host_with_all_problems_each_beginning_with_the_name()
    {
        using IHost host = new HostBuilder().ConfigureServices(services => services.AddHttpClient("payments").AddOutboundPolicy(options =>
        {
            options.RequestBufferLimit = -1;
            options.Retry!.MaxAttempts = 0;
            options.RetryBudget!.MaxTokens = 0;
            options.CircuitBreaker!.Capacity = 0;
            options.Budget!.Total = TimeSpan.FromSeconds(-3);
            options.Attempt!.Total = TimeSpan.FromSeconds(-4);
        })).Build();

        OptionsValidationException exception = (await FluentActions.Awaiting(() => host.StartAsync()).Should().ThrowAsync<OptionsValidationException>()).Which;

        exception.Failures.Should().HaveCount(6).And.OnlyContain(sentence => sentence.StartsWith("payments"));
        exception.Message.Should().ContainAll(exception.Failures);
    }

    [Fact]
    public void The_defaults_of_all_clients_take_no_policy()
    {
        IServiceCollection services = new ServiceCollection();

        Action add = () => services.ConfigureHttpClientDefaults(builder => builder.AddOutboundPolicy());

        add.Should().Throw<NotSupportedException>().WithMessage("*AddHttpClient(name)*");
    }

    [Fact]
    public void Bad_arguments_are_refused_at_once()
    {
        IHttpClientBuilder builder = new ServiceCollection().AddHttpClient("a");

        builder.Invoking(b => b.AddOutboundPolicy((Action<OutboundPolicyOptions, IServiceProvider>)null!)).Should().Throw<ArgumentNullException>().WithParameterName("configure");
        FluentActions.Invoking(() => ((IHttpClientBuilder)null!).AddOutboundPolicy()).Should().Throw<ArgumentNullException>().WithParameterName("builder");
        FluentActions.Invoking(() => new OutboundPolicy(null!)).Should().Throw<ArgumentNullException>().WithParameterName("options");
        FluentActions.Invoking(() => new OutboundPolicyHandler(null!)).Should().Throw<ArgumentNullException>().WithParameterName("policy");
    }

    [Fact]
    public void Each_rule_has_its_sentence()
    {
        (Action<OutboundPolicyOptions> Break, string Sentence)[] rules =
        [
            (o => o.RequestBufferLimit = -1, "x: RequestBufferLimit must be between 0 and 2147483647, but is -1."),
            (o => o.NetworkAllowance = TimeSpan.FromTicks(-1), "x: NetworkAllowance must be between 0 and 1.00:00:00, but is -00:00:00.0000001."),
            (o => o.NetworkAllowance = TimeSpan.FromDays(2), "x: NetworkAllowance must be between 0 and 1.00:00:00, but is 2.00:00:00."),
            (o => o.Budget!.AbandonOnExpiry = true, "x: Budget.AbandonOnExpiry must be false (a handler that ignores its token would go on with a request that its caller may dispose), but is True."),
            (o => o.Attempt!.AbandonOnExpiry = true, "x: Attempt.AbandonOnExpiry must be false (a request is never sent again while it is still being sent), but is True."),
            (o => o.Retry!.MaxAttempts = 101, "x: Retry.MaxAttempts must be between 1 and 100, but is 101."),
        ];
        foreach ((Action<OutboundPolicyOptions> breakRule, string sentence) in rules)
        {
            var options = new OutboundPolicyOptions { Name = "x" };
            breakRule(options);

            options.Problems().Should().Equal(sentence);
            FluentActions.Invoking(() => new OutboundPolicy(options)).Should().Throw<OptionsValidationException>().Which.Failures.Should().Equal(sentence);
        }

        new OutboundPolicyOptions { Budget = null, Retry = null, RetryBudget = null, CircuitBreaker = null, Attempt = null }.Problems().Should().BeEmpty();
    }

    [Fact]
    public async Task Update_takes_new_numbers_keeps_the_state_and_refuses_bad_ones()
    {
        using var outbound = new Outbound(o => o.CircuitBreaker!.ConsecutiveFailures = 4);
        outbound.Server.Answers(503);
        using HttpResponseMessage first = await outbound.GetAsync();

        outbound.Policy.Invoking(policy => policy.Update(Outbound.Options(o => o.RequestBufferLimit = -1))).Should().Throw<OptionsValidationException>();
        outbound.Policy.Update(Outbound.Options(o => (o.CircuitBreaker!.ConsecutiveFailures, o.Retry!.MaxAttempts) = (4, 1)));
        using HttpResponseMessage second = await outbound.GetAsync();

        outbound.Server.Count.Should().Be(3 + 1);
        outbound.Policy.RetryBudget.Tokens.Should().Be(6);
        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<CircuitOpenException>("the failures from before count");
    }

    private static IConfigurationRoot Configuration(params (string Key, string? Value)[] values) =>
        new ConfigurationBuilder().AddInMemoryCollection(values.ToDictionary(value => value.Key, value => value.Value)).Build();

    private static HttpClient Client(IServiceProvider provider) => provider.GetRequiredService<IHttpClientFactory>().CreateClient("payments");

    private ServiceProvider Bound(IConfiguration configuration) => Services(builder =>
    {
        builder.Services.AddSingleton(configuration);
        builder.AddOutboundPolicy();
        builder.Services.AddOptions<OutboundPolicyOptions>("payments").BindConfiguration("Payments");
    });

    private ServiceProvider Services(Action<IHttpClientBuilder> configure)
    {
        IServiceCollection services = new ServiceCollection().AddSingleton<TimeProvider>(_time).AddLogging(logging => logging.AddProvider(_logs));
        configure(services.AddHttpClient("payments").ConfigurePrimaryHttpMessageHandler(() => _server));
        return services.BuildServiceProvider();
    }
}
