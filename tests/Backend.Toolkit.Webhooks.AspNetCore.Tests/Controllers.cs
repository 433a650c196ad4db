using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Mvc.ApplicationParts;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

internal static class Controllers
{
    public static void Add(IServiceCollection services) => services
        .AddControllers()
        .ConfigureApplicationPartManager(parts => parts.ApplicationParts.Add(new AssemblyPart(typeof(EventsController).Assembly)));
}

public sealed record Event(string Type, int Amount);

[ApiController]
[Route("/events")]
[VerifyWebhook("orders")]
public sealed class EventsController : ControllerBase
{
    [HttpPost]
    public string Post([FromBody] Event received) => $"{received.Type} {received.Amount} {HttpContext.GetVerifiedWebhook().Id}";

    [HttpPost("form")]
    public string Form([FromForm] string type, IFormFile? file) => $"{type} {file?.Length}";
}

[ApiController]
[Route("/free")]
public sealed class FreeController : ControllerBase
{
    [HttpPost]
    public string Post() => "free";
}
