using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Configuration.Memory;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Tests;

public sealed class RegistrationTests
{
    private const string Second = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    private readonly LogList _log = new();
    private readonly FakeTimeProvider _time = Sample.Time();
    private readonly MemoryConfigurationSource _source = new() { InitialData = new Dictionary<string, string?>() };

    private IHost Host(Action<IServiceCollection> configure)
    {
        HostApplicationBuilder builder = Microsoft.Extensions.Hosting.Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Configuration.Sources.Add(_source);
        builder.Logging.AddProvider(_log);
        builder.Services.AddSingleton<TimeProvider>(_time);
        configure(builder.Services);
        return builder.Build();
    }

    [Fact]
    public async Task Unnamed_and_named_ones_are_singletons_with_the_clock_of_the_container()
    {
        using IHost host = Host(services => services
            .AddWebhookVerifier(o => o.Keys.Add(new(Sample.Secret)))
            .AddWebhookVerifier("second", (o, provider) => o.Keys.Add(new(provider.GetHashCode() > 0 ? Second : "")))
            .AddWebhookSigner((o, _) => o.Keys.Add(new(Sample.Secret)))
            .AddWebhookSigner("second", o => o.Keys.Add(new(Second)))
            .AddWebhookReplayGuard((o, _) => o.MaxKeys = 1)
            .AddWebhookReplayGuard("second", o => o.MaxKeys = 2));
        await host.StartAsync();
        IServiceProvider provider = host.Services;
        var guard = provider.GetRequiredService<WebhookReplayGuard>();

        Headers plain = provider.GetRequiredService<WebhookSigner>().Signed(Sample.Body), named = provider.GetRequiredKeyedService<WebhookSigner>("second").Signed(Sample.Body);

        plain["webhook-timestamp"].Should().Be("1614265330");
        provider.GetRequiredService<WebhookVerifier>().Verify(plain, Sample.Body).Should().Be(WebhookVerification.Valid);
        provider.GetRequiredService<WebhookVerifier>().Verify(named, Sample.Body).Should().Be(WebhookVerification.BadSignature);
        provider.GetRequiredKeyedService<WebhookVerifier>("second").Verify(named, Sample.Body).Should().Be(WebhookVerification.Valid);
        provider.GetRequiredKeyedService<WebhookVerifier>("second").Should().BeSameAs(provider.GetRequiredKeyedService<WebhookVerifier>("second"));
        provider.GetRequiredKeyedService<WebhookReplayGuard>("second").Should().NotBeSameAs(guard);
        (await guard.ReserveAsync(new WebhookReplayKey(new byte[32]))).Status.Should().Be(WebhookReservationStatus.Reserved);
        (await guard.ReserveAsync(new WebhookReplayKey([1, .. new byte[31]]))).Status.Should().Be(WebhookReservationStatus.Full);
        _log.Entries.Should().ContainSingle().Which.Message.Should().StartWith("Webhook replay guard 'default' is full of 1 messages");
    }

    [Theory]
    [InlineData("verifier")]
    [InlineData("signer")]
    public async Task Without_a_secret_the_host_does_not_start(string what)
    {
        using IHost host = Host(services => _ = what == "verifier" ? services.AddWebhookVerifier("stripe", o => o.Scheme = WebhookScheme.Stripe) : services.AddWebhookSigner("stripe"));

        Func<Task> start = () => host.StartAsync();

        await start.Should().ThrowAsync<OptionsValidationException>().WithMessage("stripe: Keys must be 1 to 16 keys (without one, nobody could be told from a forger), but is 0.");
    }

    [Fact]
    public async Task Options_bind_and_keys_change_while_it_runs()
    {
        Set("Hooks:Scheme", "stripe");
        Set("Hooks:Tolerance", "00:01:00");
        Set("Hooks:Keys:0:Secret", Sample.Secret);
        Set("Guard:MaxKeys", "1");
        using IHost host = BoundHost();
        await host.StartAsync();
        var verifier = host.Services.GetRequiredKeyedService<WebhookVerifier>("hooks");
        Headers Signed(string secret, int age = 0) => Sample.Signer(WebhookScheme.Stripe, _time, secret).Signed(Sample.Body, timestamp: Sample.Now.AddSeconds(-age));
        verifier.Verify(Signed(Sample.Secret, 60), Sample.Body).Should().Be(WebhookVerification.Valid);
        verifier.Verify(Signed(Sample.Secret, 61), Sample.Body).Should().Be(WebhookVerification.Stale);
        verifier.Verify(Signed(Second), Sample.Body).Should().Be(WebhookVerification.BadSignature);

        Set("Hooks:Keys:0:Expires", "2021-02-25T15:03:10Z");
        Set("Hooks:Keys:1:Secret", Second);
        Reload(host);

        verifier.Verify(Signed(Sample.Secret), Sample.Body).Should().Be(WebhookVerification.Valid);
        verifier.Verify(Signed(Second), Sample.Body).Should().Be(WebhookVerification.Valid);
        _time.Advance(TimeSpan.FromMinutes(1));
        verifier.Verify(Signed(Sample.Secret), Sample.Body).Should().Be(WebhookVerification.BadSignature);
    }

    [Fact]
    public async Task An_invalid_reload_is_told_once_and_the_last_valid_keys_stay()
    {
        Set("Hooks:Scheme", "GitHub");
        Set("Hooks:Keys:0:Secret", Sample.Secret);
        using IHost host = BoundHost();
        await host.StartAsync();
        var verifier = host.Services.GetRequiredKeyedService<WebhookVerifier>("hooks");

        Set("Hooks:Keys:0:Secret", "");
        Reload(host);
        Action resolve = () => host.Services.GetRequiredService<IOptionsMonitor<WebhookVerifierOptions>>().Get("hooks");

        resolve.Should().NotThrow();
        verifier.Verify(Sample.Signer(WebhookScheme.GitHub, _time, Sample.Secret).Signed(Sample.Body), Sample.Body).Should().Be(WebhookVerification.Valid);
        _log.Entries.Should().ContainSingle(entry => entry.Level == LogLevel.Error).Which.Message.Should().Be(
            "Webhook options 'hooks': the reloaded options are invalid, the last valid ones stay in force. hooks: Keys[0] Secret must not be empty, but is.");
    }

    [Fact]
    public async Task A_scheme_that_nobody_knows_stops_the_start_and_names_those_that_are_known()
    {
        Set("Hooks:Scheme", "Strype");
        Set("Hooks:Keys:0:Secret", Sample.Secret);
        using IHost host = BoundHost();

        Func<Task> start = () => host.StartAsync();

        (await start.Should().ThrowAsync<InvalidOperationException>()).Which.InnerException!.Message.Should().Be(
            "A scheme is one of StandardWebhooks, Stripe, GitHub, Slack, Shopify, but is 'Strype'.");
    }

    [Fact]
    public void Missing_arguments_are_told_at_once()
    {
        var services = new ServiceCollection();
        Action[] calls =
        [
            () => services.AddWebhookVerifier((Action<WebhookVerifierOptions, IServiceProvider>)null!),
            () => services.AddWebhookVerifier("a", (Action<WebhookVerifierOptions, IServiceProvider>)null!),
            () => services.AddWebhookVerifier(" "),
            () => services.AddWebhookSigner(" ", (_, _) => { }),
            () => services.AddWebhookReplayGuard(" "),
            () => ((IServiceCollection)null!).AddWebhookVerifier(),
            () => ((IServiceCollection)null!).AddWebhookSigner(),
            () => ((IServiceCollection)null!).AddWebhookReplayGuard(),
        ];

        calls.Should().AllSatisfy(call => call.Should().Throw<ArgumentException>());
        services.Should().BeEmpty();
    }

    private IHost BoundHost() => Host(services =>
    {
        services.AddWebhookVerifier("hooks").AddWebhookReplayGuard();
        services.AddOptions<WebhookVerifierOptions>("hooks").BindConfiguration("Hooks");
        services.AddOptions<WebhookReplayGuardOptions>().BindConfiguration("Guard");
    });

    private void Set(string key, string value) => ((Dictionary<string, string?>)_source.InitialData!)[key] = value;

    private void Reload(IHost host)
    {
        var provider = ((IConfigurationRoot)host.Services.GetRequiredService<IConfiguration>()).Providers.OfType<MemoryConfigurationProvider>().Last();
        foreach ((string key, string? value) in _source.InitialData!)
        {
            provider.Set(key, value);
        }

        ((IConfigurationRoot)host.Services.GetRequiredService<IConfiguration>()).Reload();
    }

    /// <summary>Between the options that it was made of and its listening.</summary>
    [Fact]
    public void A_reload_while_it_is_made_is_not_lost()
    {
        const string old = "a secret that is taken back", current = "a secret that takes its place";
        var services = new ServiceCollection();
        services.AddSingleton<IOptionsMonitor<WebhookVerifierOptions>>(new MonitorThatReloads(Sample.VerifierOptions(WebhookScheme.GitHub, old), Sample.VerifierOptions(WebhookScheme.GitHub, current)));
        services.AddWebhookVerifier("test");
        using ServiceProvider provider = services.BuildServiceProvider();
        WebhookVerification Verify(string secret) => provider.GetRequiredKeyedService<WebhookVerifier>("test").Verify(Sample.Signer(WebhookScheme.GitHub, _time, secret).Signed(Sample.Body), Sample.Body);

        _ = Verify(old);
        SpinWait.SpinUntil(() => Verify(current) == WebhookVerification.Valid, TimeSpan.FromSeconds(5));

        (Verify(current), Verify(old)).Should().Be((WebhookVerification.Valid, WebhookVerification.BadSignature));
    }

    /// <summary>Reloads on another thread, once, while somebody who listens already asks for the options.</summary>
    private sealed class MonitorThatReloads(WebhookVerifierOptions first, WebhookVerifierOptions second) : IOptionsMonitor<WebhookVerifierOptions>
    {
        private Action<WebhookVerifierOptions, string?>? _listener;
        private Thread? _reload;

        public WebhookVerifierOptions CurrentValue => Get(Options.DefaultName);

        public WebhookVerifierOptions Get(string? name)
        {
            if (_listener is null || _reload is not null)
            {
                return _reload is null ? first : second;
            }

            _reload = new Thread(() => _listener(second, name));
            _reload.Start();
            _reload.Join(50);
            return first;
        }

        public IDisposable? OnChange(Action<WebhookVerifierOptions, string?> listener)
        {
            _listener = listener;
            return null;
        }
    }
}
