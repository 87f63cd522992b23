"""A leader arm without hardware, registered with LeRobot as a plugin's would be: test_leader."""

from dataclasses import dataclass

from lerobot.teleoperators import Teleoperator, TeleoperatorConfig, TeleopEvents


@TeleoperatorConfig.register_subclass("test_leader")
@dataclass(kw_only=True)
class LeaderArmConfig(TeleoperatorConfig):
    joints: int = 1
    broken: bool = False


class LeaderArm(Teleoperator):
    config_class = LeaderArmConfig
    name = "test_leader"

    def __init__(self, config):
        super().__init__(config)
        self.config, self.button = config, False
        self.connects = self.disconnects = self.asked = 0

    @property
    def action_features(self):
        return {f"joint_{n}.pos": float for n in range(self.config.joints)}

    feedback_features = {}  # noqa: RUF012 - a property elsewhere

    @property
    def is_connected(self):
        return self.connects > self.disconnects

    is_calibrated = True

    def connect(self, calibrate=True):
        self.connects += 1
        self.asked += calibrate and not self.is_calibrated
        if self.config.broken:
            raise OSError("no motor 3")

    def calibrate(self):
        pass

    def configure(self):
        pass

    def get_action(self):
        return dict.fromkeys(self.action_features, 0.5)

    def get_teleop_events(self):
        return {TeleopEvents.IS_INTERVENTION: self.button}

    def send_feedback(self, feedback):
        pass

    def disconnect(self):
        self.disconnects += 1
