using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

public sealed class OptionsTests
{
    public static TheoryData<Action<WebhookReceivingOptions>, string> Invalid { get; } = new()
    {
        { o => o.Name = " ", "WebhookReceivingOptions: Name must be not empty, but is ' '." },
        { o => o.MaxBodyBytes = -1, "receiving: MaxBodyBytes must be between 0 and 2147483647, but is -1." },
        { o => o.MaxUnverifiedBytes = 1_048_575, "receiving: MaxUnverifiedBytes must be between MaxBodyBytes (1048576) and 1099511627776, but is 1048575." },
        { o => o.MaxUnverifiedBytes = (1L << 40) + 1, "receiving: MaxUnverifiedBytes must be between MaxBodyBytes (1048576) and 1099511627776, but is 1099511627777." },
        { o => o.MaxBytesInMemory = 1_048_577, "receiving: MaxBytesInMemory must be between 0 and 1048576, but is 1048577." },
        { o => o.ReadTimeout = TimeSpan.Zero, "receiving: ReadTimeout must be greater than 0 and at most 1.00:00:00, but is 00:00:00." },
        { o => o.MaxRunTime = TimeSpan.FromDays(2), "receiving: MaxRunTime must be greater than 0 and at most 1.00:00:00, but is 2.00:00:00." },
        { o => o.StoreTimeout = TimeSpan.Zero, "receiving: StoreTimeout must be greater than 0 and at most 00:01:00, but is 00:00:00." },
        { o => o.StoreTimeout = TimeSpan.FromSeconds(61), "receiving: StoreTimeout must be greater than 0 and at most 00:01:00, but is 00:01:01." },
        { o => o.RetryAfter = TimeSpan.FromMilliseconds(999), "receiving: RetryAfter must be between 00:00:01 and 01:00:00, but is 00:00:00.9990000." },
    };

    [Theory]
    [MemberData(nameof(Invalid))]
    public async Task Each_bad_value_stops_the_host_with_a_sentence(Action<WebhookReceivingOptions> spoil, string sentence)
    {
        Func<Task> start = () => Server.StartAsync(_ => { }, setup => setup.Receiving = spoil);

        (await start.Should().ThrowAsync<OptionsValidationException>()).Which.Failures.Should().Equal(sentence);
    }

    [Fact]
    public void The_defaults_have_no_problems()
    {
        new WebhookReceivingOptions().Problems().Should().BeEmpty();
        new WebhookReceivingOptions { MaxBodyBytes = 0, MaxUnverifiedBytes = 0, MaxBytesInMemory = 0 }.Problems().Should().BeEmpty();
    }

    [Fact]
    public async Task A_good_reload_holds_from_the_next_request_on_and_a_bad_one_changes_nothing()
    {
        var configuration = new ConfigurationManager();
        configuration["Receiving:MaxBodyBytes"] = "5";
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => "ran").VerifyWebhook("orders", guardReplays: false),
            setup => setup.Services = services => services.AddWebhookReceiving((o, _) => o.RetryAfter = TimeSpan.FromSeconds(9)).AddOptions<WebhookReceivingOptions>().Bind(configuration.GetSection("Receiving")));

        Answer bound = await server.SendAsync("/");
        configuration["Receiving:MaxBodyBytes"] = "100";
        ((IConfigurationRoot)configuration).Reload();
        Answer reloaded = await server.SendAsync("/");
        configuration["Receiving:MaxBodyBytes"] = "-1";
        ((IConfigurationRoot)configuration).Reload();
        Answer kept = await server.SendAsync("/");

        (bound.Status, reloaded.Status, kept.Status).Should().Be((413, 200, 200));
        server.Errors.Should().ContainSingle().Which.Should().Contain("MaxBodyBytes must be between 0 and 2147483647, but is -1.");
    }
}
